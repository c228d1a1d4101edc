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
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "engine/builder.h"
#include "engine/checkpoint.h"
#include "engine/experiment_config.h"
#include "engine/progress.h"
#include "engine/scalar_log.h"
#include "engine/train_step.h"
#include "engine/work_dir.h"
#include "models/detector.h"
#include "runtime/distributed/watchdog.h"
#include "runtime/training/checkpoint_store.h"
#include "runtime/training/checkpoint_writer.h"

namespace gradlibra {

// A loss or gradient that is not a number, on whichever rank; the message names term, step, rate and images.
struct NonFiniteError : AgreedError {
  using AgreedError::AgreedError;
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
    bool changed_data = false;     // though the data are not those of the checkpoint
    int64_t stop_after_step = -1;  // leave with a checkpoint after this many steps in total (tests, time-limited jobs)
    const std::atomic<int>* signal = nullptr;  // set to a signal's number by its handler: leave with a checkpoint
    bool quiet = false;
    StepRange profile_steps;       // for a profiler, runtime/device/profiling.h
    Watchdog* watchdog = nullptr;  // is told of each step, and of each batch of a validation
  };
  enum class Outcome { finished, stopped };

  // Reads the data, takes the folder, builds the model, loads weights or a checkpoint. Errors name the key, file or
  // tensor.
  Trainer(Context& context, Communicator& communicator, const ExperimentConfig& config, Options options);
  ~Trainer();

  // Whatever ends it, an exception too, leaves a checkpoint of the last finished step where one can be written; the
  // exception's message then says so.
  Outcome run();

  [[nodiscard]] Detector& detector() { return *training_.detector; }
  [[nodiscard]] int64_t step() const { return state_.step; }
  // The signal for which it was stopped, wherever among the ranks it came; 0: none.
  [[nodiscard]] int stop_signal() const;

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  // The last checkpoint could not be written, for which there is no other rescue.
  struct CheckpointFailed : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  // A step that has been enqueued.
  struct PendingStep {
    int64_t number = 0, epoch = 0;  // from 0
    size_t batch = 0;               // index into batches_
    Clock::time_point start;
    double data_wait = 0, lr = 0;
    double rank_wait = 0;  // the longest that a rank has waited for the others in front of the step before this one
    int slowest_rank = 0;  // for whom: the one that waited least
  };
  void read_data();
  // Takes the folder and looks at its checkpoints; what there is to continue from.
  [[nodiscard]] std::optional<CheckpointStore::Loaded> open_work_dir();
  void load_values(Detector& detector, const std::optional<CheckpointStore::Loaded>& newest);
  void require_same_ranks() const;
  // Refuses to go on inside an epoch with batches of another size: images would be shown twice or not at all.
  void require_same_batch(const CheckpointStore::Loaded& newest) const;
  // Says what differs from the checkpoint's; what cannot be changed any more stays as it was there.
  void note_changed_config(const CheckpointStore::Loaded& newest);
  void open_files(bool resumed);

  void mark_finished() const;
  Outcome train_steps(Loader& loader, int64_t total_steps);
  // None if a signal came while it waited for images, or to another rank.
  void take_step(Loader& loader);
  bool read_batch_of(Loader& loader, Batch& batch);
  // read_batch_of() on every rank, after which all agree: true only if none failed and none has had a signal. Notes in
  // the step who waits for whom.
  bool read_batch_together(Loader& loader, Batch& batch, PendingStep& step);
  // Waits for the oldest steps until so many are left: checks and logs what came of them.
  void finish_steps(size_t may_remain);
  // Writes the batch down and throws NonFiniteError, which names what is not finite.
  [[noreturn]] void stop_for_non_finite(const PendingStep& step, const TrainStep::Result& result) const;
  // Copies the values and lets them be written while training goes on; the `last` checkpoint of a run is waited for. A
  // failure is a warning, but for the last one: without it the work since the one before would be lost unnoticed.
  void save_checkpoint(bool last);
  void start_write(CheckpointStore& store);
  // Waits for the write under way, then says what came of it.
  void finish_write();
  void note_written(const std::optional<CheckpointWriter::Written>& written);
  [[nodiscard]] SafetensorsFile checkpoint() const;
  // After an exception: saves the last finished step if that is still possible, and says what became of it.
  [[nodiscard]] std::string rescue();
  [[nodiscard]] bool signalled() const;  // this process
  // Whether it is time to stop for a signal, for all ranks alike.
  [[nodiscard]] bool stops() const { return stop_signal() != 0; }
  // Whether this rank is the one that prints, logs and writes checkpoints.
  [[nodiscard]] bool leads() const { return communicator_.rank() == 0; }
  // Validates the epoch that has just ended, unless a signal breaks it off; keeps the best. All ranks take part and
  // come to the same results.
  void evaluate(int64_t epoch);
  void keep_if_best(const std::optional<double>& map);
  [[nodiscard]] bool validation_due() const;
  [[nodiscard]] bool out_of_patience() const;  // whether train.patience is at an end
  void write_log(const nlohmann::ordered_json& line);
  void log(const PendingStep& step, const TrainStep::Result& result, double step_seconds);
  void say(const std::string& line) const;

  Context& context_;
  Communicator& communicator_;
  ExperimentConfig config_;
  Options options_;
  Dataset dataset_, val_;
  std::unique_ptr<WorkDir> work_dir_;  // of the first rank
  Training training_;
  std::unique_ptr<CheckpointStore> store_, best_;
  CheckpointWriter writer_;  // ends before the stores do
  bool told_slow_disk_ = false;
  TrainState state_;
  double base_lr_ = 0;
  int64_t steps_per_epoch_ = 0;
  int evaluate_every_ = 0;  // epochs between validations; 0: none
  int non_finite_in_a_row_ = 0;
  int agreed_signal_ = 0;                  // of several ranks, the one they stop for
  double waited_for_ranks_ = 0;            // seconds, in front of the last step
  int64_t saved_step_ = -1, updates_ = 0;  // since this process began
  std::unique_ptr<TrainStep> train_step_;
  std::array<Batch, 2> batches_;  // in turn: one that may be needed for a message, and the one being read
  std::deque<PendingStep> pending_;
  Clock::time_point last_finish_;
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<ScalarLog> scalars_;
  RunningMedian step_seconds_;
};

}  // namespace gradlibra
