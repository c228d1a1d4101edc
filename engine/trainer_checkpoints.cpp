// SPDX-License-Identifier: MIT
// The trainer's checkpoints: those that are due, the last one, and the one after an exception.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/trainer.h"

namespace gradlibra {

SafetensorsFile Trainer::checkpoint() const {
  SafetensorsFile file = make_checkpoint(*training_.detector, config_, dataset_, state_);
  if (training_.average) training_.average->save(file);
  if (communicator_.world_size() > 1) file.metadata["ranks"] = std::to_string(communicator_.world_size());
  return file;
}

void Trainer::save_checkpoint(bool last) {
  if (!leads()) return;
  start_write(*store_);
  if (!last) return;
  const auto written = writer_.wait();
  if (!written->saved.ok())
    throw CheckpointFailed(fmt::format("no checkpoint at step {}: {}", state_.step, written->saved.error));
  note_written(written);
}

// On a GPU the copy waits for the steps under way, which are at an end here, and for nothing else.
void Trainer::start_write(CheckpointStore& store) {
  constexpr double kWorthANote = 1;
  const Clock::time_point due = Clock::now();
  finish_write();
  if (const double waited = seconds_since(due); waited >= kWorthANote && !std::exchange(told_slow_disk_, true))
    say(
        fmt::format("note: training waited {:.1f} s for the checkpoint before to be written; a larger "
                    "train.checkpoint_every, or a faster disk, spares that",
                    waited));
  writer_.start(store, checkpoint(), state_.step);
}

void Trainer::finish_write() { note_written(writer_.wait()); }

void Trainer::note_written(const std::optional<CheckpointWriter::Written>& written) {
  if (!written) return;
  const auto& [store, step, saved] = *written;
  if (store == best_.get()) {
    if (!saved.ok()) say(fmt::format("warning: the best checkpoint was not saved: {}; training goes on", saved.error));
  } else if (saved.ok()) {
    saved_step_ = step;
  } else {
    say(fmt::format("warning: no checkpoint at step {}: {}; training goes on", step, saved.error));
  }
}

std::string Trainer::rescue() {
  if (!leads()) return "";
  try {
    finish_write();
  } catch (const std::exception& error) {
    say(fmt::format("warning: no checkpoint: {}", error.what()));
  }
  std::string kept = saved_step_ >= 0 ? fmt::format("the last checkpoint is of step {}", saved_step_)
                                      : std::string("no checkpoint was written since the start");
  // Behind a loss that is not a number, steps under way have changed weights that the run has not got to.
  if (!pending_.empty() && state_.step <= pending_.front().number) return ". " + kept;
  if (saved_step_ != state_.step) {
    try {
      finish_steps(0);
      const SafetensorsFile file = checkpoint();
      const auto bad = std::find_if(file.tensors.begin(), file.tensors.end(),
                                    [](const auto& entry) { return !all_finite(entry.second); });
      // It would be the newest one, and no better than none.
      if (bad != file.tensors.end()) return fmt::format(". {} is not finite either, {}", bad->first, kept);
      const auto saved = store_->save(file, state_.step);
      if (!saved.ok()) return fmt::format(". No checkpoint at step {}: {}; {}", state_.step, saved.error, kept);
      saved_step_ = state_.step;
    } catch (const std::exception& error) {
      return fmt::format(". No checkpoint at step {}: {}; {}", state_.step, error.what(), kept);
    }
  }
  return fmt::format(". The checkpoint of step {} is kept; continue with --resume", saved_step_);
}

}  // namespace gradlibra
