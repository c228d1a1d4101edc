// SPDX-License-Identifier: MIT
// Programs run side by side, each with processors (or a GPU) of its own.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace gradlibra {

// Commands one after the other, the next only when the one before ended with 0.
struct Job {
  std::string name;
  std::vector<std::vector<std::string>> commands;  // program and arguments
  std::filesystem::path folder;                    // where they run
  std::filesystem::path output;                    // stdout and stderr, appended
};

struct JobResult {
  enum class End { done, failed, stopped };
  End end = End::done;
  double seconds = 0;
  std::string why;  // of a failure: the exit code or signal and the last line of output
};

// What a slot of the pool has for itself. Processors are divided among the slots in equal parts, from those that this
// process may use; GPUs are dealt in turn.
struct Slot {
  std::vector<int> processors;
  int gpu = -1;  // of those that are visible to this process; -1: none
};
// `jobs` slots. std::invalid_argument for jobs < 1. More jobs than processors share them.
[[nodiscard]] std::vector<Slot> divide_machine(int jobs, int gpus);

// Runs jobs in their order, one per slot at a time; done(index, result) as each ends. In a command "{threads}" stands
// for the number of the slot's processors. When `signal` becomes other than 0, running commands get a SIGTERM, are
// waited for, and nothing more is begun: what did not end is `stopped`.
void run_jobs(const std::vector<Job>& jobs, const std::vector<Slot>& slots, const std::atomic<int>& signal,
              const std::function<void(size_t, const JobResult&)>& done);

}  // namespace gradlibra
