// SPDX-License-Identifier: MIT
// What a trainer does before its first step: data, folder, model, values, files.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>

#include "data/datasets/annotations.h"
#include "engine/rank_check.h"
#include "engine/read_split.h"
#include "engine/trainer.h"
#include "runtime/base/files.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

namespace {

// Weights, statistics and momentum as float32.
int64_t checkpoint_bytes(const ParameterStore& store) {
  int64_t values = 0;
  for (const Parameter& p : store.all()) values += p.node.value.size() * (p.trainable ? 2 : 1);
  return values * static_cast<int64_t>(sizeof(float));
}

// Whether train.evaluate_every = -1 means to validate: yes if there is a split of the usual name, or if another is
// named. `why` says why not.
bool wants_validation(const DatasetConfig& data, std::string& why) {
  why = "data.val is empty";
  if (data.val.empty()) return false;
  if (data.val != DatasetConfig{}.val) return true;
  try {
    (void)split_file(data, Split::val);
    return true;
  } catch (const std::runtime_error& error) {
    // Somebody has put a list there.
    const std::filesystem::path root(data.root);
    for (const char* list : {"ImageSets/Main/val.txt", "annotations/instances_val.json", "val.txt", "val"})
      if (std::error_code none;
          std::filesystem::is_symlink(root / list, none) && !std::filesystem::exists(root / list, none))
        throw std::runtime_error("data.val: " + (root / list).string() + " is a link to nothing");
    why = error.what();
    return false;
  }
}

// What a checkpoint has decided for all of its training, whatever the configuration says now.
void keep_what_is_decided(const TrainConfig& stored, TrainConfig& now, const std::function<void(std::string)>& say) {
  if (now.seed != stored.seed)
    say(fmt::format("note: train.seed stays {}: it has drawn the order of the images", stored.seed));
  if (now.pretrained != stored.pretrained || now.pretrained_scope != stored.pretrained_scope)
    say("note: train.pretrained is not read: the weights are the checkpoint's");
  now.seed = stored.seed;
  now.pretrained = stored.pretrained;
  now.pretrained_scope = stored.pretrained_scope;
}

}  // namespace

Trainer::Trainer(Context& context, Communicator& communicator, const ExperimentConfig& config, Options options)
    : context_(context), communicator_(communicator), config_(config), options_(std::move(options)) {
  read_data();
  const std::optional<CheckpointStore::Loaded> newest = open_work_dir();
  training_ = build_training(context_, config_, class_info(dataset_),
                             [&](Detector& detector) { load_values(detector, newest); });
  if (newest && training_.average && !training_.average->load(newest->file, newest->path.string()))
    say("note: the checkpoint has no moving average of the weights; it starts now");
  train_step_ = std::make_unique<TrainStep>(
      *training_.detector, *training_.optimizer, communicator_,
      TrainStep::Options{.graph = config_.runtime.cuda_graph,
                         .average = training_.average.get(),
                         .buckets = {config_.distributed.first_bucket_mb, config_.distributed.bucket_mb},
                         .sync_norm = config_.distributed.sync_norm});

  const int64_t total_batch = static_cast<int64_t>(config_.loader.batch_size) * communicator_.world_size();
  base_lr_ = scaled_lr(config_.schedule, total_batch);
  const ParameterStore& parameters = training_.detector->parameters();
  say(fmt::format("model: {} trainable of {} parameters on {}", parameters.trainable_count(),
                  parameters.parameter_count(), context_.device_name()));
  say(fmt::format("learning rate {:.6g} at total batch {}", base_lr_, total_batch));
  require_same_ranks();
  if (leads()) open_files(newest.has_value());
}

Trainer::~Trainer() = default;

void Trainer::read_data() {
  const auto tell = [&](const std::string& line) { say(line); };
  dataset_ = read_training_split(config_, tell);
  say(fmt::format("data: {} training images, {} classes from {}", dataset_.images.size(), dataset_.classes.size(),
                  config_.data.root));
  int& every = evaluate_every_;
  every = config_.train.evaluate_every;
  if (std::string why; every < 0 && !wants_validation(config_.data, why)) {
    every = 0;
    say("no validation: " + why);
  }
  if (every < 0) every = 1;
  if (every > 0) {  // now, not after an epoch, is the time to find that it cannot be read
    ExperimentConfig validation = config_;
    validation.data.classes = dataset_.classes;
    val_ = read_evaluation_split(validation, Split::val, tell);
    const DataMark mark = mark_of(val_);
    const bool has_truth = mark.boxes > 0;
    state_.validations.data = mark.hash;
    if (!has_truth && config_.train.patience > 0)
      throw std::invalid_argument(
          "train.patience waits for a better mAP, but no image of the validation split has a box: there is none");
    say(fmt::format(
        "validation: {} images every {} epochs{}", val_.images.size(), every,
        has_truth ? "" : "; warning: none of them has a box, so there will be no mAP and no best checkpoint"));
    if (const int64_t shared = shared_images(dataset_, val_); shared > 0)
      say(fmt::format("warning: {} of {} validation images are in the training split, too", shared,
                      val_.images.size()));
  } else if (config_.train.patience > 0) {
    throw std::invalid_argument(
        "train.patience counts validations, but there are none: set data.val and train.evaluate_every");
  }
}

std::optional<CheckpointStore::Loaded> Trainer::open_work_dir() {
  const std::filesystem::path folder = options_.work_dir / "checkpoints";
  if (leads()) {
    work_dir_ = std::make_unique<WorkDir>(options_.work_dir);
    if (!work_dir_->warning().empty()) say("warning: " + work_dir_->warning());
  }
  store_ = std::make_unique<CheckpointStore>(folder, config_.train.keep_checkpoints);
  best_ = std::make_unique<CheckpointStore>(folder / "best", 1);
  auto newest = store_->load_latest();
  if (newest && !options_.resume)
    throw std::runtime_error(
        fmt::format("{} already holds a training ({}); add --resume to continue it, or choose another --work-dir",
                    options_.work_dir.string(), newest->path.filename().string()));
  return newest;
}

void Trainer::load_values(Detector& detector, const std::optional<CheckpointStore::Loaded>& newest) {
  // Without room for one checkpoint there is no point in starting; those that are kept and the one being written want
  // some more.
  const int64_t bytes = checkpoint_bytes(detector.parameters());
  if (const std::string problem = store_->space_problem(bytes); !problem.empty()) throw std::runtime_error(problem);
  const int64_t kept = std::max(1, config_.train.keep_checkpoints) + (evaluate_every_ > 0 ? 1 : 0);
  if (const std::string problem = store_->space_problem(bytes * (kept + 1)); !problem.empty())
    say("warning: " + problem);

  state_.loader.seed = static_cast<uint64_t>(config_.train.seed);
  if (newest) {
    for (const std::string& problem : newest->problems) say("checkpoint: " + problem);
    const std::string validated_on = state_.validations.data;
    state_ = restore_checkpoint(newest->file, newest->path.string(), detector, dataset_, options_.changed_data);
    say(fmt::format("resumed from {} at step {}", newest->path.string(), state_.step));
    require_same_batch(*newest);
    note_changed_config(*newest);
    Validations& v = state_.validations;
    if (!v.data.empty() && !validated_on.empty() && v.data != validated_on && v.best_map) {
      say(fmt::format("note: the validation data have changed; the best mAP@0.5 of {:.4f} of step {} is forgotten",
                      *v.best_map, v.best_step));
      v.best_map.reset();
      v.best_step = v.without_gain = 0;
    }
    if (!validated_on.empty()) v.data = validated_on;
  } else if (config_.model.loss.trains_classifier_only() &&
             (config_.train.pretrained.empty() || config_.train.pretrained_scope == "backbone")) {
    throw std::invalid_argument(
        "model.loss.bags.finetune trains the classifier alone: train.pretrained must name a trained detector, of which "
        "train.pretrained_scope leaves neck and head");
  } else if (!config_.train.pretrained.empty()) {
    TrainConfig from = config_.train;
    // It starts anew: its channels are not those of the file.
    if (config_.model.loss.trains_classifier_only()) from.pretrained_scope = "no_classifier";
    say(load_pretrained(detector, from));
  } else {
    say("weights: from scratch");
    const BackboneConfig& backbone = config_.model.backbone;
    if (backbone.frozen_stages >= 0 || backbone.norm_eval)
      say(
          fmt::format("warning: the backbone starts from random numbers, and model.backbone.frozen_stages={} and "
                      "norm_eval={} would keep some of them: name its weights (train.pretrained), or set "
                      "model.backbone.frozen_stages=-1 model.backbone.norm_eval=false",
                      backbone.frozen_stages, backbone.norm_eval));
  }
  if (options_.resume && !newest)
    say(fmt::format("note: no checkpoint in {}: starts at step 0", (options_.work_dir / "checkpoints").string()));
}

// Where files lie may differ from host to host; what is in them may not.
void Trainer::require_same_ranks() const {
  if (communicator_.world_size() == 1) return;
  ExperimentConfig config = config_;
  config.data.root = "";
  std::string classes;
  for (const std::string& name : dataset_.classes) classes += name + "\n";
  require_same_marks(communicator_,
                     {{"configuration", to_yaml(config)},
                      {"--stop-after-step", std::to_string(options_.stop_after_step)},
                      {"classes", classes},
                      {"training data", mark_of(dataset_).hash},
                      {"validation data", mark_of(val_).hash},
                      {"files of training images", hash_of_images(dataset_)},
                      {"files of validation images", hash_of_images(val_)},
                      {"step to go on from (every host must see the same --work-dir)", std::to_string(state_.step)},
                      {"weights", hash_of_weights(*training_.detector)}},
                     "at the start");
}

// The order of images is of all ranks together (data/loading/loader.h): only the product of both numbers counts, and at
// an epoch's start not even that, as long as the steps per epoch agree, which run() looks at.
void Trainer::require_same_batch(const CheckpointStore::Loaded& newest) const {
  const LoaderState& place = state_.loader;
  if (place.batch == 0) return;
  int64_t ranks = 1, size = 0;
  try {
    size = stored_config(newest.file, newest.path.string()).loader.batch_size;
    const auto stored = newest.file.metadata.find("ranks");
    if (stored != newest.file.metadata.end()) ranks = std::stoll(stored->second);
  } catch (const std::exception&) {
    return;  // of another program's version; the number of steps per epoch is still compared
  }
  const int64_t size_now = config_.loader.batch_size, ranks_now = communicator_.world_size();
  if (size * ranks == size_now * ranks_now) return;
  throw std::runtime_error(fmt::format(
      "{}: stands behind batch {} of epoch {}, of {} images each (loader.batch_size {}, ranks {}); now a batch has {} "
      "({}, ranks {}), so that images would be shown twice or left out. Go on with the former size until the epoch "
      "ends, or choose another --work-dir",
      newest.path.string(), place.batch, place.epoch + 1, size * ranks, size, ranks, size_now * ranks_now, size_now,
      ranks_now));
}

void Trainer::note_changed_config(const CheckpointStore::Loaded& newest) {
  constexpr size_t kShown = 12;
  std::vector<std::string> differences;
  try {
    const ExperimentConfig stored = stored_config(newest.file, newest.path.string());
    keep_what_is_decided(stored.train, config_.train, [&](const std::string& line) { say(line); });
    differences = config_differences(values_of(stored), values_of(config_));
  } catch (const ConfigError& error) {
    differences.emplace_back(error.what());  // of an older program
  }
  if (differences.empty()) return;
  std::string text = "note: the configuration differs from the checkpoint's; the one given now is used";
  for (size_t i = 0; i < differences.size() && i < kShown; ++i) text += "\n  " + differences[i];
  if (differences.size() > kShown) text += fmt::format("\n  .. and {} more", differences.size() - kShown);
  say(text);
}

void Trainer::open_files(bool resumed) {
  // Somebody's own file may have that name: with comments, and a base that is not written out.
  const std::filesystem::path config = options_.work_dir / "config.yaml";
  const std::string text = to_yaml(config_, true);
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  if (!resumed && std::filesystem::exists(config) && read_file(config, kMostBytes) != text)
    say(fmt::format("note: {} was there; it is {} now", config.string(), move_aside(config).filename().string()));
  write_file(config, text);
  std::filesystem::create_directories(options_.work_dir / "checkpoints");
  std::error_code ignored;
  std::filesystem::remove(options_.work_dir / "finished", ignored);
  const std::filesystem::path log = options_.work_dir / "log.jsonl";
  cut_log(log, resumed ? state_.step : 0, resumed ? state_.validations.epochs : 0,
          [&](const std::string& line) { say(line); });
  log_ = std::make_unique<RunLog>(log);
  scalars_ = std::make_unique<ScalarLog>(options_.work_dir, state_.step);
}

}  // namespace gradlibra
