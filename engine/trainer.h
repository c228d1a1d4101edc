// SPDX-License-Identifier: MIT
// The training loop: data, loss, update, progress, checkpoints, and an orderly end when a signal comes. Of several
// ranks the first prints, logs and writes.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>

#include "engine/checkpoint.h"
#include "engine/experiment.h"
#include "engine/progress.h"
#include "engine/scalar_log.h"
#include "engine/train_step.h"
#include "models/detector.h"
#include "runtime/training/checkpoint_store.h"
#include "runtime/training/optimizer.h"

namespace gradlibra {

// A loss or gradient that is not a number; the message names term, step, rate and images.
struct NonFiniteError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Steps first to last - 1, counted from 0 over the whole training.
struct StepRange {
  int64_t first = -1, last = -1;
};
// "100:110". std::invalid_argument for anything else, or an empty range.
[[nodiscard]] StepRange parse_step_range(const std::string& text);

class Trainer {
 public:
  struct Options {
    std::filesystem::path work_dir;
    bool resume = false;           // continue from the newest checkpoint of work_dir, if there is one
    int64_t stop_after_step = -1;  // leave with a checkpoint after this many steps in total (tests, time-limited jobs)
    const std::atomic<int>* signal = nullptr;  // set to a signal's number by its handler: leave with a checkpoint
    bool quiet = false;
    StepRange profile_steps;  // for a profiler, runtime/device/profiling.h
  };
  enum class Outcome { finished, stopped };

  // Reads the data, builds the model, loads weights or a checkpoint. Errors name the key, file or tensor.
  Trainer(Context& context, Communicator& communicator, const ExperimentConfig& config, Options options);
  ~Trainer();

  Outcome run();

  [[nodiscard]] Detector& detector() { return *detector_; }
  [[nodiscard]] int64_t step() const { return state_.step; }

 private:
  using Clock = std::chrono::steady_clock;
  // A step that has been enqueued.
  struct PendingStep {
    int64_t number = 0, epoch = 0;  // from 0
    size_t batch = 0;               // index into batches_
    Clock::time_point start;
    double data_wait = 0, lr = 0;
  };
  // Waits for the oldest steps until so many are left: checks and logs what came of them.
  void finish_steps(size_t may_remain);
  void require_finite(const PendingStep& step, const TrainStep::Result& result) const;
  // A failure is a warning, but for the `last` checkpoint of a run: without it the work since the one before would be
  // lost unnoticed.
  void save_checkpoint(bool last);
  [[nodiscard]] bool signalled() const;
  // Whether this rank is the one that prints, logs and writes checkpoints.
  [[nodiscard]] bool leads() const { return communicator_.rank() == 0; }
  void evaluate(int64_t epoch);
  void log(const PendingStep& step, const TrainStep::Result& result, double step_seconds);
  void say(const std::string& line) const;

  Context& context_;
  Communicator& communicator_;
  ExperimentConfig config_;
  Options options_;
  Dataset dataset_, val_;
  std::unique_ptr<Detector> detector_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<CheckpointStore> store_;
  TrainState state_;
  double base_lr_ = 0;
  int64_t steps_per_epoch_ = 0;
  int non_finite_in_a_row_ = 0;
  std::unique_ptr<TrainStep> train_step_;
  std::array<Batch, 2> batches_;  // in turn: one that may be needed for a message, and the one being read
  std::deque<PendingStep> pending_;
  Clock::time_point last_finish_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> log_file_;
  std::unique_ptr<ScalarLog> scalars_;
  RunningMedian step_seconds_;
};

}  // namespace gradlibra
