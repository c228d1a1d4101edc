// SPDX-License-Identifier: MIT
// Runs a program as several ranks with mpirun, and finds the process of each.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/apps/run_programs.h"

namespace gradlibra {

inline std::string mpirun_path() {
  std::istringstream folders(std::getenv("PATH") == nullptr ? "" : std::getenv("PATH"));
  for (std::string folder; std::getline(folders, folder, ':');)
    if (std::filesystem::exists(folder + "/mpirun")) return folder + "/mpirun";
  return "";
}

// Of a tiny detector on eight images.
class RanksTest : public ProgramTest {
 protected:
  using Command = std::vector<std::string>;

  void SetUp() override {
    if (mpirun_path().empty()) GTEST_SKIP() << "no mpirun on PATH (openmpi-bin): nothing runs on several processes";
    // MPI keeps memory until its end.
    setenv("ASAN_OPTIONS", "detect_leaks=0", /*overwrite=*/1);
    put_tiny_set(folder_ / "data", 8);
    config_ = write_config(folder_ / "data");
  }

  static Command join(Command a, const Command& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
  static std::string program(const std::string& name) { return std::string(GRADLIBRA_PROGRAMS) + "/" + name; }
  // `command` with the name of a program first.
  static Command mpirun(int count, Command command) {
    Command all = {
        mpirun_path(), "-q", "--oversubscribe", "--bind-to", "none", "--mca", "btl_vader_single_copy_mechanism",
        "none"};
    if (::geteuid() == 0) all.emplace_back("--allow-run-as-root");
    command[0] = program(command[0]);
    return join(join(all, {"-np", std::to_string(count)}), command);
  }
  [[nodiscard]] Command train(const std::string& work, const Command& more = {}) const {
    return join({"train", "--config", config_, "--work-dir", work, "--device", "cpu", "--threads", "1"}, more);
  }
  // Without an end, with checkpoints only where it is told to leave.
  [[nodiscard]] Command endless(const std::string& work, const Command& more = {}) const {
    return join(train(work, {"schedule.epochs=1000000", "train.checkpoint_every=1000000", "loader.batch_size=1"}),
                more);
  }

  static std::vector<nlohmann::json> log_of(const std::string& work) {
    std::vector<nlohmann::json> lines;
    std::istringstream log(get(std::filesystem::path(work) / "log.jsonl"));
    for (std::string line; std::getline(log, line);)
      if (!log.eof()) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  static void wait_for_steps(const std::string& work, size_t count) {
    for (int i = 0; i < 6000 && log_of(work).size() < count; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_GE(log_of(work).size(), count) << "within a minute";
  }
  static std::vector<std::string> checkpoints(const std::string& work) {
    std::vector<std::string> names;
    const std::filesystem::path folder = std::filesystem::path(work) / "checkpoints";
    if (!std::filesystem::exists(folder)) return names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".safetensors") names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  // Running processes with `work` on their command line: all, or the program of one rank.
  static std::vector<pid_t> processes(const std::string& work, int rank = -1) {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos || std::stoi(name) == ::getpid()) continue;
      std::string arguments = get(entry.path() / "cmdline");
      std::replace(arguments.begin(), arguments.end(), '\0', ' ');
      if ((arguments + " ").find(" " + work + " ") == std::string::npos) continue;
      const std::string mark = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + std::string(1, '\0');
      std::error_code gone;
      if (rank >= 0 && (get(entry.path() / "environ").find(mark) == std::string::npos ||
                        std::filesystem::read_symlink(entry.path() / "exe", gone).filename() != "train"))
        continue;
      found.push_back(std::stoi(name));
    }
    return found;
  }
  static pid_t process_of_rank(const std::string& work, int rank) {
    const std::vector<pid_t> found = processes(work, rank);
    return found.size() == 1 ? found[0] : -1;
  }
  static void expect_nothing_left(const std::string& work) {
    for (int i = 0; i < 2000 && !processes(work).empty(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(processes(work).empty()) << "processes go on";
  }

  std::string config_;
};

}  // namespace gradlibra
