// SPDX-License-Identifier: MIT
#include "engine/trainer.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/class_diagnostics.h"
#include "engine/evaluation.h"
#include "runtime/device/profiling.h"
#include "runtime/training/schedule.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Weights, statistics and momentum as float32.
int64_t checkpoint_bytes(const ParameterStore& store) {
  int64_t values = 0;
  for (const Parameter& p : store.all()) values += p.node.value.size() * (p.trainable ? 2 : 1);
  return values * static_cast<int64_t>(sizeof(float));
}

}  // namespace

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

Trainer::Trainer(Context& context, Communicator& communicator, const ExperimentConfig& config, Options options)
    : context_(context),
      communicator_(communicator),
      config_(config),
      options_(std::move(options)),
      log_file_(nullptr, &std::fclose) {
  std::vector<Finding> findings;
  dataset_ = read_dataset(config_.data, Split::train, findings);
  if (dataset_.images.empty()) throw std::runtime_error(config_.data.root + ": the training split has no images");
  say(fmt::format("data: {} training images, {} classes from {}", dataset_.images.size(), dataset_.classes.size(),
                  config_.data.root));
  if (!findings.empty()) say(fmt::format("data: {} findings; `inspect data` lists them", findings.size()));
  if (config_.train.evaluate_every > 0) {  // now, not after an epoch, is the time to find that it cannot be read
    val_ = read_dataset(config_.data, Split::val, findings);
    if (val_.images.empty())
      throw std::runtime_error(config_.data.root +
                               ": train.evaluate_every is set, but the validation split (data.val) has no images");
  }

  context_.configure(config_.runtime);
  ModelConfig model = config_.model;
  model.loss.record_gradients = config_.train.class_gradients;
  detector_ = std::make_unique<Detector>(context_, model, class_info(dataset_));
  detector_->parameters().initialize(static_cast<uint64_t>(config_.train.seed));
  optimizer_ = std::make_unique<Optimizer>(detector_->parameters(), config_.optimizer);
  train_step_ = std::make_unique<TrainStep>(*detector_, *optimizer_, communicator_,
                                            TrainStep::Options{.graph = config_.runtime.cuda_graph});
  state_.loader.seed = static_cast<uint64_t>(config_.train.seed);

  std::filesystem::create_directories(options_.work_dir);
  const std::filesystem::path folder = options_.work_dir / "checkpoints";
  std::filesystem::create_directories(folder);
  store_ = std::make_unique<CheckpointStore>(folder, config_.train.keep_checkpoints);
  // Without room for one checkpoint there is no point in starting; those that are kept and the one being written want
  // some more.
  const int64_t bytes = checkpoint_bytes(detector_->parameters());
  if (const std::string problem = store_->space_problem(bytes); !problem.empty()) throw std::runtime_error(problem);
  if (const std::string problem = store_->space_problem(bytes * (config_.train.keep_checkpoints + 1)); !problem.empty())
    say("warning: " + problem);
  const auto newest = store_->load_latest();
  if (newest && !options_.resume)
    throw std::runtime_error(
        fmt::format("{} already holds a training ({}); add --resume to continue it, or choose another --work-dir",
                    options_.work_dir.string(), newest->path.filename().string()));
  if (newest) {
    for (const std::string& problem : newest->problems) say("checkpoint: " + problem);
    state_ = restore_checkpoint(newest->file, newest->path.string(), *detector_, dataset_);
    say(fmt::format("resumed from {} at step {}", newest->path.string(), state_.step));
    const auto stored = newest->file.metadata.find("config");
    if (stored != newest->file.metadata.end() && stored->second != to_yaml(config_))
      say("note: the configuration differs from the checkpoint's; the one given now is used");
  } else if (!config_.train.pretrained.empty()) {
    SafetensorsFile file = read_safetensors(config_.train.pretrained);
    if (config_.train.pretrained_scope == "backbone") {
      const size_t left_out =
          std::erase_if(file.tensors, [](const auto& entry) { return is_beyond_backbone(entry.first); });
      if (left_out > 0)
        say(fmt::format("weights: {} tensors of neck and head left out (train.pretrained_scope is backbone)",
                        left_out));
    }
    const WeightReport report = load_weights(detector_->parameters(), file, config_.train.pretrained, scope_of(file));
    say("weights: " + config_.train.pretrained + "\n" + report.to_string());
  } else {
    say("weights: from scratch");
  }

  const int64_t total_batch = static_cast<int64_t>(config_.loader.batch_size) * communicator_.world_size();
  base_lr_ = scaled_lr(config_.schedule, total_batch);
  say(fmt::format("model: {} trainable of {} parameters on {}", detector_->parameters().trainable_count(),
                  detector_->parameters().parameter_count(), context_.device_name()));
  say(fmt::format("learning rate {:.6g} at total batch {}", base_lr_, total_batch));
  if (!leads()) return;
  std::ofstream resolved(options_.work_dir / "config.yaml");
  if (!(resolved << to_yaml(config_, true) << std::flush))
    throw std::runtime_error((options_.work_dir / "config.yaml").string() + ": cannot be written");
  log_file_.reset(std::fopen((options_.work_dir / "log.jsonl").c_str(), "a"));
  if (!log_file_) throw std::runtime_error((options_.work_dir / "log.jsonl").string() + ": cannot be written");
  scalars_ = std::make_unique<ScalarLog>(options_.work_dir, state_.step);
}

Trainer::~Trainer() = default;

void Trainer::say(const std::string& line) const {
  if (options_.quiet || !leads()) return;
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

void Trainer::require_finite(const PendingStep& step, const TrainStep::Result& result) const {
  const Batch& batch = batches_[step.batch];
  if (std::isfinite(result.own_total) && !std::isfinite(result.total))
    throw NonFiniteError(
        fmt::format("another rank's loss is not finite at step {}. Nothing was updated.", step.number));
  const std::string rank = leads() ? "" : fmt::format("_rank_{}", communicator_.rank());
  const std::filesystem::path dump =
      options_.work_dir / fmt::format("nonfinite_step_{}{}.safetensors", step.number, rank);
  std::string replay = fmt::format("The batch is in {} for `inspect step --batch`", dump.string());
  try {
    write_safetensors(dump, batch_file(batch));
  } catch (const std::exception& e) {  // must not hide why training stops
    replay = fmt::format("The batch could not be written: {}", e.what());
  }
  for (const auto& [name, value] : result.losses) {
    if (std::isfinite(value)) continue;
    throw NonFiniteError(fmt::format(
        "{} is {} at step {} (learning rate {:.6g}), images: {}. Nothing was updated. Lower schedule.lr, set "
        "optimizer.clip_norm, or look at these images with `inspect data`. {}",
        name, value, step.number, step.lr, joined(batch.ids), replay));
  }
  throw NonFiniteError(
      fmt::format("the gradient norm is {} at step {} (learning rate {:.6g}), images: {}. Nothing was updated. Lower "
                  "schedule.lr or set optimizer.clip_norm. {}",
                  result.grad_norm, step.number, step.lr, joined(batch.ids), replay));
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
        "images or loader.batch_size has changed; use another --work-dir",
        state_.step, place.epoch, place.batch, steps_per_epoch_));
  last_finish_ = Clock::now();
  while (state_.step < total_steps) {
    if (signalled() || (options_.stop_after_step >= 0 && state_.step >= options_.stop_after_step)) {
      finish_steps(0);
      save_checkpoint(true);
      say(fmt::format("stopped after step {}; continue with --resume", state_.step));
      return Outcome::stopped;
    }
    PendingStep step{.number = state_.step,
                     .epoch = state_.step / steps_per_epoch_,
                     .batch = static_cast<size_t>(state_.step) % batches_.size(),
                     .start = Clock::now()};
    if (step.number == options_.profile_steps.first) profiler_start(context_);
    const double waited = loader.seconds_waited();
    profiled("data", [&] { loader.next(batches_[step.batch]); });
    step.data_wait = loader.seconds_waited() - waited;
    step.lr = learning_rate(config_.schedule, base_lr_, step.epoch, step.number);
    profiled("upload", [&] { train_step_->stage(batches_[step.batch]); });
    profiled("step", [&] { train_step_->enqueue(step.lr); });
    pending_.push_back(step);
    ++state_.step;
    state_.loader = loader.state();
    finish_steps(train_step_->lag());
    if (state_.step == options_.profile_steps.last) {
      finish_steps(0);
      profiler_stop(context_);
    }

    const bool epoch_ends = state_.step % steps_per_epoch_ == 0;
    const bool due =
        config_.train.checkpoint_every > 0 ? state_.step % config_.train.checkpoint_every == 0 : epoch_ends;
    const bool last = state_.step == total_steps;
    if (due || last) {
      finish_steps(0);
      save_checkpoint(last);
    }
    if (epoch_ends && config_.train.evaluate_every > 0 && (step.epoch + 1) % config_.train.evaluate_every == 0) {
      finish_steps(0);
      evaluate(step.epoch);
    }
  }
  return Outcome::finished;
}

void Trainer::finish_steps(size_t may_remain) {
  while (pending_.size() > may_remain) {
    const PendingStep step = pending_.front();
    pending_.pop_front();
    const TrainStep::Result result = train_step_->wait();
    const bool finite = std::isfinite(result.total) && std::isfinite(result.grad_norm);
    if (!finite && (!std::isfinite(result.total) || ++non_finite_in_a_row_ > config_.train.max_non_finite)) {
      state_.step = step.number;  // nor does a step behind it count
      require_finite(step, result);
    }
    if (finite) non_finite_in_a_row_ = 0;
    // Steps overlap on a GPU: a step's time is what it adds to the run.
    const double seconds = seconds_since(std::max(step.start, last_finish_));
    last_finish_ = Clock::now();
    log(step, result, seconds);
  }
}

bool Trainer::signalled() const { return options_.signal != nullptr && options_.signal->load() != 0; }

void Trainer::save_checkpoint(bool last) {
  if (!leads()) return;
  const auto saved = store_->save(make_checkpoint(*detector_, config_, dataset_, state_), state_.step);
  if (saved.ok()) return;
  const std::string problem = fmt::format("no checkpoint at step {}: {}", state_.step, saved.error);
  if (last) throw std::runtime_error(problem);
  say("warning: " + problem + "; training goes on");
}

void Trainer::evaluate(int64_t epoch) {
  if (!leads()) return;  // the others wait in their next reduction
  struct Signalled {};
  Detections detections;
  try {
    detections = detect_dataset(*detector_, val_, config_, [&](int64_t, int64_t) {
      if (signalled()) throw Signalled{};
    });
  } catch (const Signalled&) {
    return say(fmt::format("epoch {}: validation broken off", epoch + 1));
  }
  const VocResult voc = voc_metrics(val_, detections);
  say(fmt::format("epoch {}: validation mAP@0.5 {:.4f}", epoch + 1, voc.map.value_or(0)));
  const nlohmann::ordered_json line{{"step", state_.step}, {"epoch", epoch + 1}, {"val_map50", voc.map.value_or(0)}};
  fmt::print(log_file_.get(), "{}\n", line.dump());
  std::fflush(log_file_.get());
  scalars_->validation(line);
}

void Trainer::log(const PendingStep& step, const TrainStep::Result& result, double step_seconds) {
  if (!leads()) return;
  const int64_t done = step.number + 1;
  nlohmann::ordered_json line{{"step", done}, {"epoch", step.epoch + 1}, {"lr", step.lr}, {"loss", result.total}};
  for (const auto& [name, value] : result.losses) line[name] = value;
  line["grad_norm"] = result.grad_norm;
  line["step_seconds"] = step_seconds;
  line["data_wait"] = step.data_wait;
  line["memory_mb"] = static_cast<double>(context_.memory().bytes_reserved()) / 1048576.0;
  const int64_t total_steps = steps_per_epoch_ * config_.schedule.epochs;
  const int every = std::max(1, config_.train.log_every);
  const bool shown = done % every == 0 || done == 1 || done == total_steps;
  const auto classes =
      shown ? class_diagnostics(result, detector_->classifier(), detector_->classes().count()) : std::nullopt;
  if (classes) add_to_log(*classes, dataset_.classes, line);
  fmt::print(log_file_.get(), "{}\n", line.dump());
  std::fflush(log_file_.get());
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
