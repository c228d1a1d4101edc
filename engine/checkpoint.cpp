// SPDX-License-Identifier: MIT
#include "engine/checkpoint.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/training/checkpoint_store.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

using nlohmann::json;

const std::string& metadata(const SafetensorsFile& file, const std::string& name, const char* key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end())
    throw std::runtime_error(
        fmt::format("{}: no '{}' in its metadata: not a training checkpoint of this program", name, key));
  return found->second;
}

int64_t number(const SafetensorsFile& file, const std::string& name, const char* key) {
  const std::string& text = metadata(file, name, key);
  try {
    size_t used = 0;
    const long long value = std::stoll(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {
    // One message for all that is not a number.
  }
  throw std::runtime_error(fmt::format("{}: '{}' is '{}', not a whole number", name, key, text));
}

// Boxes of each class in the training split; a checkpoint of before they were stored has none.
std::optional<std::vector<int64_t>> instances_of(const SafetensorsFile& file) {
  const auto found = file.metadata.find("instances");
  if (found == file.metadata.end()) return std::nullopt;
  return json::parse(found->second).get<std::vector<int64_t>>();
}

// Other boxes are another training set: what was learned and accumulated belongs to the old one.
void require_same_instances(const SafetensorsFile& file, const std::string& name, const ClassInfo& classes) {
  const auto stored = instances_of(file);
  if (!stored || *stored == classes.instances) return;
  for (size_t c = 0; c < classes.names.size(); ++c) {
    const int64_t before = c < stored->size() ? (*stored)[c] : 0,
                  now = c < classes.instances.size() ? classes.instances[c] : 0;
    if (before != now)
      throw std::runtime_error(fmt::format(
          "{}: trained on {} boxes of class '{}', the training split has {} now; restore the annotations, or start "
          "another --work-dir (train.pretrained takes the weights over)",
          name, before, classes.names[c], now));
  }
}

}  // namespace

SafetensorsFile make_checkpoint(Detector& detector, const ExperimentConfig& config, const Dataset& dataset,
                                const TrainState& state) {
  SafetensorsFile file;
  save_weights(detector.parameters(), file);
  save_velocities(detector.parameters(), file);
  save_state(detector.context(), detector.state(), file);
  file.metadata = {{"format", "gradlibra checkpoint 1"},
                   {"version", GRADLIBRA_VERSION},
                   {"step", std::to_string(state.step)},
                   {"epoch", std::to_string(state.loader.epoch)},
                   {"batch", std::to_string(state.loader.batch)},
                   {"seed", std::to_string(state.loader.seed)},
                   {"classes", json(dataset.classes).dump()},
                   {"groups", json(dataset.groups).dump()},
                   {"instances", json(detector.classes().instances).dump()},
                   {"config", to_yaml(config)}};
  return file;
}

TrainState restore_checkpoint(const SafetensorsFile& file, const std::string& name, Detector& detector,
                              const Dataset& dataset) {
  const json classes = json::parse(metadata(file, name, "classes"));
  if (classes != json(dataset.classes))
    throw std::runtime_error(
        fmt::format("{}: trained on the classes {}, the data set has {}; use another --work-dir for another data set",
                    name, classes.dump(), json(dataset.classes).dump()));
  require_same_instances(file, name, detector.classes());
  load_weights(detector.parameters(), file, name, WeightScope::detector);
  load_velocities(detector.parameters(), file, name);
  load_state(detector.context(), detector.state(), file, name);
  TrainState state;
  state.step = number(file, name, "step");
  state.loader.epoch = number(file, name, "epoch");
  state.loader.batch = number(file, name, "batch");
  state.loader.seed = static_cast<uint64_t>(number(file, name, "seed"));
  return state;
}

LoadedDetector load_detector(Context& context, const SafetensorsFile& file, const std::string& name,
                             const std::vector<std::string>& overrides) {
  LoadedDetector loaded;
  ConfigSource::from_text(metadata(file, name, "config"), name + " (stored configuration)", overrides)
      .read_into(loaded.config);
  loaded.classes = json::parse(metadata(file, name, "classes")).get<std::vector<std::string>>();
  loaded.groups = json::parse(metadata(file, name, "groups")).get<std::map<std::string, std::vector<std::string>>>();
  loaded.step = number(file, name, "step");
  context.configure(loaded.config.runtime);
  loaded.detector = std::make_unique<Detector>(
      context, loaded.config.model, ClassInfo{loaded.classes, instances_of(file).value_or(std::vector<int64_t>{})});
  load_weights(loaded.detector->parameters(), file, name, WeightScope::detector);
  check_fixed_state(context, loaded.detector->state(), file, name);
  return loaded;
}

SafetensorsFile open_checkpoint(const std::filesystem::path& path, std::string& used) {
  if (!std::filesystem::exists(path))
    throw std::runtime_error(fmt::format("{}: no such file or folder", path.string()));
  if (!std::filesystem::is_directory(path)) {
    used = path.string();
    return CheckpointStore::load(path).file;
  }
  // A training's folder keeps its checkpoints in a subfolder.
  const std::filesystem::path inner = path / "checkpoints";
  auto newest = CheckpointStore(std::filesystem::exists(inner) ? inner : path).load_latest();
  if (!newest) throw std::runtime_error(fmt::format("{}: no checkpoint in this folder; train first", path.string()));
  used = newest->path.string();
  return std::move(newest->file);
}

}  // namespace gradlibra
