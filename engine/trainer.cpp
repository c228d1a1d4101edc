// SPDX-License-Identifier: MIT
#include "engine/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "engine/class_diagnostics.h"
#include "engine/gather_results.h"
#include "engine/next_batch.h"
#include "engine/rank_check.h"
#include "engine/signals.h"
#include "runtime/base/files.h"
#include "runtime/device/profiling.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

StepRange parse_step_range(const std::string& text) {
  StepRange range;
  const size_t colon = text.find(':');
  try {
    size_t used = 0;
    range.first = std::stoll(text.substr(0, colon), &used);
    if (used == colon && colon + 1 < text.size()) {
      range.last = std::stoll(text.substr(colon + 1), &used);
      if (used == text.size() - colon - 1 && range.first >= 0 && range.last > range.first) return range;
    }
  } catch (const std::logic_error&) {
    // One message for all that is not a range.
  }
  throw std::invalid_argument("--profile-steps " + text + ": not A:B with 0 <= A < B, such as 100:110");
}

// To a terminal that is gone, or a pipe that nobody reads, nothing is said; that must not end a training.
void Trainer::say(const std::string& line) const {
  if (options_.quiet || !leads()) return;
  const std::string text = line + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  std::clearerr(stdout);
}

void Trainer::stop_for_non_finite(const PendingStep& step, const TrainStep::Result& result) const {
  const Batch& batch = batches_[step.batch];
  if (std::isfinite(result.own_total) && !std::isfinite(result.total))
    throw NonFiniteError(
        fmt::format("another rank's loss is not finite at step {}. Nothing was updated.", step.number));
  const std::string rank = leads() ? "" : fmt::format("_rank_{}", communicator_.rank());
  const std::filesystem::path dump =
      options_.work_dir / fmt::format("nonfinite_step_{}{}.safetensors", step.number, rank);
  std::string replay = fmt::format(
      "The batch is in {} for `inspect step --batch`, which names the first value that is not finite", dump.string());
  try {
    write_safetensors(dump, batch_file(batch));
  } catch (const std::exception& e) {  // must not hide why training stops
    replay = fmt::format("The batch could not be written: {}", e.what());
  }
  std::string what = fmt::format("the gradient norm is {}", result.grad_norm);
  for (const auto& [name, value] : result.losses) {
    if (std::isfinite(value)) continue;
    what = fmt::format("{} is {}", name, value);
    break;
  }
  // Before the first update of this process the rate has had no say.
  const std::string remedy =
      updates_ == 0
          ? "No update was made before it, so that the learning rate is not the cause: look at the weights it "
            "started from, model.pixel_mean and model.pixel_std, and at these images with `inspect data`."
          : "Lower schedule.lr, set optimizer.clip_norm, or look at these images with `inspect data`.";
  throw NonFiniteError(fmt::format("{} at step {} (learning rate {:.6g}), images: {}. Nothing was updated. {} {}", what,
                                   step.number, step.lr, fmt::join(batch.ids, ", "), remedy, replay));
}

Trainer::Outcome Trainer::run() {
  Loader loader(dataset_, config_.loader, config_.data, LoaderMode::train, state_.loader, communicator_.rank(),
                communicator_.world_size());
  steps_per_epoch_ = loader.batches_per_epoch();
  const int64_t total_steps = steps_per_epoch_ * config_.schedule.epochs;
  const LoaderState& place = state_.loader;
  if (state_.step != place.epoch * steps_per_epoch_ + place.batch)
    throw std::runtime_error(fmt::format(
        "the checkpoint stands at step {}, epoch {}, batch {}, which does not fit {} steps per epoch: the number of "
        "images, loader.batch_size or the number of ranks has changed; use another --work-dir",
        state_.step, place.epoch, place.batch, steps_per_epoch_));
  try {
    const Outcome outcome = train_steps(loader, total_steps);
    finish_write();
    if (log_ && log_->missing() > 0)
      say(fmt::format("warning: {} lines of log.jsonl could not be written", log_->missing()));
    if (outcome == Outcome::finished) mark_finished();
    return outcome;
  } catch (const CheckpointFailed&) {
    throw;
  } catch (const RanksDiffer&) {
    throw;
  } catch (const PeerLost&) {
    throw;  // sums that were under way may have come to anything: nothing of this step is kept
  } catch (const NonFiniteError& error) {
    throw NonFiniteError(error.what() + rescue());
  } catch (const AgreedError& error) {
    throw AgreedError(error.what() + rescue());
  } catch (const std::bad_alloc&) {
    throw std::runtime_error("out of memory; use a smaller loader.batch_size or image size" + rescue());
  } catch (const std::exception& error) {
    throw std::runtime_error(error.what() + rescue());
  }
}

// For scripts: whether there is anything left to do. A full disk here does not unmake the last checkpoint.
void Trainer::mark_finished() const {
  if (!leads()) return;
  try {
    write_file(options_.work_dir / "finished", fmt::format("{} steps\n", state_.step));
  } catch (const WriteError& error) {
    say(fmt::format("warning: {}", error.what()));
  }
}

Trainer::Outcome Trainer::train_steps(Loader& loader, int64_t total_steps) {
  last_finish_ = Clock::now();
  // A run that ended between an epoch's checkpoint and its validation makes up for it.
  if (validation_due() && !stops()) {
    evaluate(state_.step / steps_per_epoch_ - 1);
    if (state_.step >= total_steps) save_checkpoint(true);
  }
  while (state_.step < total_steps) {
    if (out_of_patience()) {
      const Validations& v = state_.validations;
      save_checkpoint(true);
      say(fmt::format(
          "stopped early: {} validations without a better mAP@0.5 than {:.4f} of step {} (checkpoints/best); "
          "train.patience decides",
          v.without_gain, v.best_map.value_or(0), v.best_step));
      return Outcome::finished;
    }
    if (stops() || (options_.stop_after_step >= 0 && state_.step >= options_.stop_after_step)) {
      if (communicator_.world_size() > 1) leave_only_to_who_insists();
      finish_steps(0);
      save_checkpoint(true);
      say(fmt::format("stopped after step {}; continue with --resume", state_.step));
      return Outcome::stopped;
    }
    const int64_t before = state_.step;
    take_step(loader);
    if (state_.step == before) continue;
    const int64_t check = config_.distributed.check_every;
    if (check > 0 && state_.step % check == 0 && communicator_.world_size() > 1) {
      finish_steps(0);
      require_same_marks(communicator_, {{"weights", hash_of_weights(*training_.detector)}},
                         fmt::format("after step {}", state_.step));
    }
    note_written(writer_.poll());
    const bool epoch_ends = state_.step % steps_per_epoch_ == 0;
    const bool due =
        config_.train.checkpoint_every > 0 ? state_.step % config_.train.checkpoint_every == 0 : epoch_ends;
    const bool last = state_.step == total_steps;
    if (due || last) {
      finish_steps(0);
      save_checkpoint(last);
    }
    if (!validation_due()) continue;
    finish_steps(0);
    evaluate(state_.step / steps_per_epoch_ - 1);
    if (last) save_checkpoint(true);  // with what the validation showed
  }
  return validation_due() ? Outcome::stopped : Outcome::finished;  // the last one was broken off
}

bool Trainer::read_batch_of(Loader& loader, Batch& batch) {
  bool told = false;
  try {
    next_batch(loader, batch, config_.loader.retry_seconds, [&](const std::string& error) {
      const std::string text = fmt::format("warning: {}; trying again for {} s", error, config_.loader.retry_seconds);
      if (std::exchange(told, true)) return !signalled();
      say(text);
      if (!leads()) fmt::print(stderr, "rank {} on {}: {}\n", communicator_.rank(), host_name(), text);
      return !signalled();
    });
  } catch (const ReadError&) {
    if (!signalled()) throw;
    return false;
  }
  if (told) say("reading goes on");
  return true;
}

bool Trainer::read_batch_together(Loader& loader, Batch& batch, PendingStep& step) {
  bool got = false;
  Clock::time_point ready;
  // The signal, how long this rank has waited for the others in front of the last step, and what was skipped, which the
  // first rank tells.
  const std::vector<std::string> all = gather_results(communicator_, [&] {
    got = read_batch_of(loader, batch);
    std::string text = fmt::format("{} {}", signalled() ? options_.signal->load() : 0, waited_for_ranks_);
    for (size_t i = 0; got && i < batch.skipped.size(); ++i) text += "\n" + batch.skipped[i];
    ready = Clock::now();
    if (options_.watchdog != nullptr) options_.watchdog->begin_together();
    return text;
  });
  if (communicator_.world_size() == 1) return got;
  waited_for_ranks_ = seconds_since(ready);
  double least = std::numeric_limits<double>::infinity();
  for (size_t r = 0; r < all.size(); ++r) {
    std::istringstream lines(all[r]);
    int signal = 0;
    double waited = 0;
    std::string line;
    lines >> signal >> waited;
    std::getline(lines, line);
    agreed_signal_ = std::max(agreed_signal_, signal);
    step.rank_wait = std::max(step.rank_wait, waited);
    if (waited < least) least = waited, step.slowest_rank = static_cast<int>(r);
    while (leads() && r > 0 && std::getline(lines, line)) batch.skipped.push_back(line);
  }
  return agreed_signal_ == 0;
}

void Trainer::take_step(Loader& loader) {
  PendingStep step{.number = state_.step,
                   .epoch = state_.step / steps_per_epoch_,
                   .batch = static_cast<size_t>(state_.step) % batches_.size(),
                   .start = Clock::now()};
  if (step.number == options_.profile_steps.first) profiler_start(context_);
  if (options_.watchdog != nullptr) options_.watchdog->set_step(step.number);
  const double waited = loader.seconds_waited();
  if (!profiled("data", [&] { return read_batch_together(loader, batches_[step.batch], step); })) return;
  step.data_wait = loader.seconds_waited() - waited;
  for (const std::string& skipped : batches_[step.batch].skipped)
    say(fmt::format("warning: left out from now on (data.bad_image is 'drop'): {}", skipped));
  step.lr = learning_rate(config_.schedule, base_lr_, step.epoch, step.number);
  profiled("upload", [&] { train_step_->stage(batches_[step.batch]); });
  profiled("step", [&] { train_step_->enqueue(step.lr); });
  pending_.push_back(step);
  ++state_.step;
  state_.loader = loader.state();
  finish_steps(train_step_->lag());
  if (options_.watchdog != nullptr) options_.watchdog->end_together();
  if (state_.step == options_.profile_steps.last) {
    finish_steps(0);
    profiler_stop(context_);
  }
}

void Trainer::finish_steps(size_t may_remain) {
  while (pending_.size() > may_remain) {
    const PendingStep step = pending_.front();
    pending_.pop_front();
    const TrainStep::Result result = train_step_->wait();
    const bool finite_loss = std::isfinite(result.total), updated = finite_loss && std::isfinite(result.grad_norm);
    non_finite_in_a_row_ = updated ? 0 : non_finite_in_a_row_ + 1;
    if (!finite_loss || non_finite_in_a_row_ > config_.train.max_non_finite) {
      state_.step = step.number;  // nor does a step behind it count
      state_.loader.epoch = step.number / steps_per_epoch_;
      state_.loader.batch = step.number % steps_per_epoch_;
      stop_for_non_finite(step, result);
    }
    if (updated) {
      ++updates_;
    } else {
      ++state_.skipped_updates;
      say(fmt::format("warning: step {}: the gradient norm is {}: no update ({} in a row, train.max_non_finite = {})",
                      step.number + 1, result.grad_norm, non_finite_in_a_row_, config_.train.max_non_finite));
    }
    // Steps overlap on a GPU: a step's time is what it adds to the run.
    const double seconds = seconds_since(std::max(step.start, last_finish_));
    last_finish_ = Clock::now();
    log(step, result, seconds);
  }
}

bool Trainer::signalled() const { return options_.signal != nullptr && options_.signal->load() != 0; }

int Trainer::stop_signal() const {
  if (communicator_.world_size() > 1) return agreed_signal_;
  return signalled() ? options_.signal->load() : 0;
}

void Trainer::write_log(const nlohmann::ordered_json& line) {
  if (const std::string problem = log_->add(line.dump()); !problem.empty()) say("warning: " + problem);
}

void Trainer::log(const PendingStep& step, const TrainStep::Result& result, double step_seconds) {
  if (!leads()) return;
  const int64_t done = step.number + 1;
  nlohmann::ordered_json line{{"step", done}, {"epoch", step.epoch + 1}, {"lr", step.lr}, {"loss", result.total}};
  for (const auto& [name, value] : result.losses) line[name] = value;
  line["grad_norm"] = result.grad_norm;
  if (config_.train.max_non_finite > 0) line["skipped_updates"] = state_.skipped_updates;
  line["step_seconds"] = step_seconds;
  line["data_wait"] = step.data_wait;
  if (communicator_.world_size() > 1) {
    line["rank_wait"] = step.rank_wait;
    line["slowest_rank"] = step.slowest_rank;
  }
  line["memory_mb"] = static_cast<double>(context_.memory().bytes_reserved()) / 1048576.0;
  const int64_t total_steps = steps_per_epoch_ * config_.schedule.epochs;
  const int every = std::max(1, config_.train.log_every);
  const bool shown = done % every == 0 || done == 1 || done == total_steps;
  const auto classes =
      shown ? class_diagnostics(result, training_.detector->classifier(), training_.detector->classes().count())
            : std::nullopt;
  if (classes) add_to_log(*classes, dataset_.classes, line);
  write_log(line);
  scalars_->step(line, shown);
  step_seconds_.add(step_seconds);
  if (!shown) return;
  std::string terms;
  for (const auto& [name, value] : result.losses) terms += fmt::format("  {} {:.4f}", name, value);
  say(fmt::format("epoch {}/{}  step {}/{}  eta {}  lr {:.3g}  loss {:.4f}{}  grad {:.3g}  {:.3f} s/step (data {:.3f})",
                  step.epoch + 1, config_.schedule.epochs, done, total_steps,
                  duration_text(step_seconds_.value() * static_cast<double>(total_steps - done)), step.lr, result.total,
                  terms, result.grad_norm, step_seconds, step.data_wait));
}

}  // namespace gradlibra
