// SPDX-License-Identifier: MIT
#include "engine/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/builder.h"
#include "engine/json_file.h"
#include "engine/version.h"
#include "runtime/base/json_text.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"
#include "runtime/training/checkpoint_checksums.h"
#include "runtime/training/checkpoint_store.h"
#include "runtime/training/weight_average.h"
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

template <class Number>
Number number(const SafetensorsFile& file, const std::string& name, const char* key) {
  const std::string& text = metadata(file, name, key);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  throw std::runtime_error(fmt::format("{}: '{}' is '{}', not a number of its kind", name, key, text));
}

// Absent from checkpoints of older programs.
template <class Number>
Number number_or(const SafetensorsFile& file, const std::string& name, const char* key, Number otherwise) {
  return file.metadata.contains(key) ? number<Number>(file, name, key) : otherwise;
}

// JSON of the metadata. Checksums tell of a damaged file, not of one that another program has changed.
JsonValue::Json json_of(const SafetensorsFile& file, const std::string& name, const char* key) {
  const std::string& text = metadata(file, name, key);
  try {
    return parse_json<JsonValue::Json>(text);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(fmt::format("{}: '{}' {}", name, key, error.what()));
  }
}

std::vector<std::string> texts_of(const JsonValue& list) {
  std::vector<std::string> texts;
  for (const JsonValue& one : list.list()) texts.push_back(one.text());
  return texts;
}

std::vector<std::string> classes_of(const SafetensorsFile& file, const std::string& name) {
  const JsonValue::Json value = json_of(file, name, "classes");
  const JsonValue list(value, name, "classes");
  std::vector<std::string> classes = texts_of(list);
  for (size_t i = 0; i < classes.size(); ++i)
    if (std::find(classes.begin(), classes.begin() + static_cast<int64_t>(i), classes[i]) !=
        classes.begin() + static_cast<int64_t>(i))
      list.list()[i].fail("is there twice");
  if (classes.empty()) list.fail("has no class");
  return classes;
}

// Members need not be classes: metrics pass over those that are none.
std::map<std::string, std::vector<std::string>> groups_of(const SafetensorsFile& file, const std::string& name) {
  const JsonValue::Json value = json_of(file, name, "groups");
  std::map<std::string, std::vector<std::string>> groups;
  for (const auto& [group, members] : JsonValue(value, name, "groups").members()) groups[group] = texts_of(members);
  return groups;
}

void require_same_data(const SafetensorsFile& file, const std::string& name, const Dataset& dataset) {
  const auto stored = file.metadata.find("data");
  if (stored == file.metadata.end()) return;  // of an older program
  const JsonValue::Json value = json_of(file, name, "data");
  const JsonValue data(value, name, "data");
  const DataMark then{.images = data["images"].count(), .boxes = data["boxes"].count(), .hash = data["hash"].text()};
  const DataMark now = mark_of(dataset);
  if (then.hash == now.hash) return;
  throw std::runtime_error(fmt::format(
      "{}: the training data have changed since: {} images with {} boxes then, {} with {} now{}. Put them back, or add "
      "--changed-data to go on with what is there now, or choose another --work-dir",
      name, then.images, then.boxes, now.images, now.boxes,
      then.images == now.images && then.boxes == now.boxes ? ", with other ids, boxes or labels" : ""));
}

// Boxes of each class in the training split; a checkpoint of before they were stored has none.
std::optional<std::vector<int64_t>> instances_of(const SafetensorsFile& file, const std::string& name, size_t classes) {
  if (!file.metadata.contains("instances")) return std::nullopt;
  const JsonValue::Json value = json_of(file, name, "instances");
  const JsonValue list(value, name, "instances");
  std::vector<int64_t> instances;
  for (const JsonValue& one : list.list()) instances.push_back(one.count());
  if (instances.size() != classes) list.fail(fmt::format("has {} numbers for {} classes", instances.size(), classes));
  return instances;
}

// Other boxes are another training set: what was learned and accumulated belongs to the old one.
void require_same_instances(const SafetensorsFile& file, const std::string& name, const ClassInfo& classes) {
  const auto stored = instances_of(file, name, classes.names.size());
  if (!stored || *stored == classes.instances) return;
  for (size_t c = 0; c < classes.names.size(); ++c) {
    const int64_t before = (*stored)[c], now = c < classes.instances.size() ? classes.instances[c] : 0;
    if (before != now)
      throw std::runtime_error(fmt::format(
          "{}: trained on {} boxes of class '{}', the training split has {} now; restore the annotations, or start "
          "another --work-dir (train.pretrained takes the weights over)",
          name, before, classes.names[c], now));
  }
}

}  // namespace

DataMark mark_of(const Dataset& dataset) {
  DataMark mark{.images = static_cast<int64_t>(dataset.images.size())};
  uint64_t hash = 0;
  const auto add = [&](uint64_t word) { hash = mix_bits(hash + mix_bits(word + 0x9e3779b97f4a7c15ULL)); };
  for (const ImageRecord& image : dataset.images) {
    add(hash_name(image.id.data(), image.id.size()));
    add(static_cast<uint64_t>(image.width) << 32 | static_cast<uint32_t>(image.height));
    add(image.objects.size());
    for (const Object& o : image.objects) {
      for (const float side : {o.box.x1, o.box.y1, o.box.x2, o.box.y2}) add(std::bit_cast<uint32_t>(side));
      add(static_cast<uint64_t>(o.label) << 2 | (o.difficult ? 2U : 0U) | (o.crowd ? 1U : 0U));
      mark.boxes += is_target(o);
    }
  }
  mark.hash = fmt::format("{:016x}", hash);
  return mark;
}

SafetensorsFile make_checkpoint(Detector& detector, const ExperimentConfig& config, const Dataset& dataset,
                                const TrainState& state) {
  SafetensorsFile file;
  save_weights(detector.parameters(), file);
  save_velocities(detector.parameters(), file);
  save_state(detector.context(), detector.state(), file);
  const DataMark mark = mark_of(dataset);
  const Validations& v = state.validations;
  file.metadata = {{"format", "gradlibra checkpoint 1"},
                   {"version", GRADLIBRA_VERSION},
                   {"step", std::to_string(state.step)},
                   {"epoch", std::to_string(state.loader.epoch)},
                   {"batch", std::to_string(state.loader.batch)},
                   {"seed", std::to_string(state.loader.seed)},
                   {"validated_epochs", std::to_string(v.epochs)},
                   {"validations_without_gain", std::to_string(v.without_gain)},
                   {"classes", json(dataset.classes).dump()},
                   {"groups", json(dataset.groups).dump()},
                   {"data", json{{"images", mark.images}, {"boxes", mark.boxes}, {"hash", mark.hash}}.dump()},
                   {"instances", json(detector.classes().instances).dump()},
                   {"config", to_yaml(config)}};
  if (!revision().empty()) file.metadata["revision"] = revision();
  if (const std::string& libraries = detector.context().library_versions(); !libraries.empty())
    file.metadata["libraries"] = libraries;
  if (state.skipped_updates > 0) file.metadata["skipped_updates"] = std::to_string(state.skipped_updates);
  if (!v.data.empty()) file.metadata["validation_data"] = v.data;
  if (v.best_map) {
    file.metadata["best_map50"] = fmt::format("{}", *v.best_map);  // reads back exactly
    file.metadata["best_step"] = std::to_string(v.best_step);
  }
  return file;
}

TrainState restore_checkpoint(const SafetensorsFile& file, const std::string& name, Detector& detector,
                              const Dataset& dataset, bool changed_data) {
  const std::vector<std::string> classes = classes_of(file, name);
  if (classes != dataset.classes)
    throw std::runtime_error(
        fmt::format("{}: trained on the classes {}, the data set has {}; use another --work-dir for another data set",
                    name, json(classes).dump(), json(dataset.classes).dump()));
  if (!changed_data) {
    require_same_data(file, name, dataset);
    require_same_instances(file, name, detector.classes());
  }
  load_weights(detector.parameters(), file, name, WeightScope::detector);
  load_velocities(detector.parameters(), file, name);
  load_state(detector.context(), detector.state(), file, name);
  TrainState state;
  state.step = number<int64_t>(file, name, "step");
  state.loader.epoch = number<int64_t>(file, name, "epoch");
  state.loader.batch = number<int64_t>(file, name, "batch");
  state.loader.seed = number<uint64_t>(file, name, "seed");
  state.skipped_updates = number_or<int64_t>(file, name, "skipped_updates", 0);
  Validations& v = state.validations;
  v.epochs = number_or<int64_t>(file, name, "validated_epochs", 0);
  v.without_gain = number_or<int64_t>(file, name, "validations_without_gain", 0);
  v.best_step = number_or<int64_t>(file, name, "best_step", 0);
  if (const auto data = file.metadata.find("validation_data"); data != file.metadata.end()) v.data = data->second;
  if (file.metadata.contains("best_map50")) v.best_map = number<double>(file, name, "best_map50");
  return state;
}

ExperimentConfig stored_config(const SafetensorsFile& file, const std::string& name,
                               const std::vector<std::string>& overrides) {
  ExperimentConfig config;
  ConfigSource::from_text(metadata(file, name, "config"), name + " (stored configuration)", overrides)
      .read_into(config);
  return config;
}

bool is_checkpoint(const SafetensorsFile& file) {
  return file.metadata.contains("config") && file.metadata.contains("classes");
}

LoadedDetector load_detector(Context& context, OpenedCheckpoint opened, const std::string& config_file,
                             const std::vector<std::string>& overrides) {
  SafetensorsFile& file = opened.file;
  const std::string& name = opened.name;
  LoadedDetector loaded;
  loaded.name = name;
  const bool ours = is_checkpoint(file);
  if (!config_file.empty()) {
    ConfigSource(config_file, overrides).read_into(loaded.config);
  } else if (ours) {
    loaded.config = stored_config(file, name, overrides);
  } else {
    throw std::invalid_argument(name + ": holds weights but no configuration; name one with --config");
  }
  if (ours) {
    loaded.classes = classes_of(file, name);
    loaded.groups = groups_of(file, name);
    loaded.step = number<int64_t>(file, name, "step");
  } else {
    loaded.classes = loaded.config.data.classes;
    loaded.groups = loaded.config.data.groups;
    if (loaded.classes.empty())
      throw std::invalid_argument(
          name + ": does not say which classes it was trained for; name them in their order with data.classes=[..]");
  }
  ClassInfo classes{loaded.classes, {}};
  if (ours) classes.instances = instances_of(file, name, loaded.classes.size()).value_or(std::vector<int64_t>{});
  if (!config_file.empty() || loaded.config.train.average_decay > 0) loaded.averaged = use_average(file);
  loaded.detector = build_detector(context, loaded.config, std::move(classes), [&](Detector& detector) {
    loaded.weights = load_weights(detector.parameters(), file, name, WeightScope::detector).to_string();
  });
  if (ours) check_fixed_state(context, loaded.detector->state(), file, name);
  return loaded;
}

OpenedCheckpoint open_checkpoint(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw std::runtime_error(fmt::format("{}: no such file or folder", path.string()));
  if (!std::filesystem::is_directory(path)) {
    SafetensorsFile file = read_safetensors(path);
    if (is_checkpoint(file) || has_checksums(file)) file = CheckpointStore::verify(std::move(file), path).file;
    return {std::move(file), path.string(), {}};
  }
  // A training's folder keeps its checkpoints in a subfolder.
  const std::filesystem::path inner = path / "checkpoints";
  auto newest = CheckpointStore(std::filesystem::exists(inner) ? inner : path).load_latest();
  if (!newest) throw std::runtime_error(fmt::format("{}: no checkpoint in this folder; train first", path.string()));
  return {std::move(newest->file), newest->path.string(), std::move(newest->problems)};
}

std::string load_pretrained(Detector& detector, const TrainConfig& train) {
  SafetensorsFile file = read_safetensors(train.pretrained);
  if (has_checksums(file)) file = CheckpointStore::verify(std::move(file), train.pretrained).file;
  std::string shown = "weights: " + train.pretrained + "\n";
  if (use_average(file)) shown += "  its moving averages\n";
  if (train.pretrained_scope == "backbone") {
    const size_t left_out =
        std::erase_if(file.tensors, [](const auto& entry) { return is_beyond_backbone(entry.first); });
    if (left_out > 0)
      shown += fmt::format("  {} tensors of neck and head left out (train.pretrained_scope is backbone)\n", left_out);
  }
  WeightScope scope = scope_of(file);
  if (scope == WeightScope::detector && train.pretrained_scope == "no_classifier") scope = WeightScope::no_classifier;
  shown += load_weights(detector.parameters(), file, train.pretrained, scope).to_string();
  // A classifier of as many classes fits by shape, whatever they are.
  const auto stored = file.metadata.find("classes");
  if (scope == WeightScope::detector && stored != file.metadata.end() &&
      parse_json_or_discard(stored->second) != json(detector.classes().names))
    shown +=
        fmt::format("  note: its classifier was trained for {}; train.pretrained_scope=no_classifier starts a new one",
                    escaped(stored->second));
  while (shown.ends_with('\n')) shown.pop_back();
  return shown;
}

}  // namespace gradlibra
