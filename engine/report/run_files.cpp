// SPDX-License-Identifier: MIT
#include "engine/report/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "engine/json_file.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

PrecisionRecall read_curve(const JsonValue& json) {
  PrecisionRecall curve;
  if (json["precision"].list().empty()) return curve;
  curve.precision = json["precision"].numbers(PrecisionRecall::kPoints);
  for (const JsonValue& score : json["score"].list()) {
    if (score.is_null()) break;  // from here on the recall is not reached
    curve.score.push_back(score.number());
  }
  return curve;
}

MetricsFile::Class read_class(const JsonValue& json) {
  MetricsFile::Class one;
  one.result.name = json["name"].text();
  if (!json["group"].is_null()) one.group = json["group"].text();
  one.result.ap = json["AP"].number_or_null();
  one.result.ap_11_point = json["AP_11_point"].number_or_null();
  one.result.recall = json["recall"].number_or_null();
  one.result.ground_truths = json["ground_truths"].count();
  one.result.detections = json["detections"].count();
  if (json.has("precision_recall")) one.result.curve = read_curve(json["precision_recall"]);
  return one;
}

ConfusionMatrix read_confusion(const JsonValue& json, size_t names) {
  ConfusionMatrix matrix;
  matrix.options = {.min_score = json["min_score"].number(), .iou_threshold = json["iou"].number()};
  const std::vector<JsonValue> rows = json["counts"].list();
  if (rows.size() != names) json["counts"].fail(fmt::format("has {} rows for {} names", rows.size(), names));
  for (const JsonValue& row : rows) {
    std::vector<int64_t>& counts = matrix.counts.emplace_back();
    for (const JsonValue& one : row.list()) counts.push_back(one.count());
    if (counts.size() != names) row.fail(fmt::format("has {} counts for {} names", counts.size(), names));
  }
  return matrix;
}

Calibration read_calibration(const JsonValue& json) {
  Calibration calibration;
  calibration.error = json["error"].number();
  const std::vector<JsonValue> bins = json["bins"].list();
  if (bins.size() != calibration.bins.size())
    json["bins"].fail(fmt::format("has {} bins, not {}", bins.size(), calibration.bins.size()));
  for (size_t i = 0; i < bins.size(); ++i)
    calibration.bins[i] = {bins[i]["detections"].count(), bins[i]["mean_score"].number(),
                           bins[i]["precision"].number()};
  return calibration;
}

bool has_metrics(const fs::path& folder) { return fs::exists(folder / "metrics.json"); }

fs::path find_evaluation(const fs::path& folder) {
  if (has_metrics(folder)) return folder;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() && has_metrics(entry.path())) found.push_back(entry.path().string());
  std::sort(found.begin(), found.end());
  if (found.size() > 1)
    throw std::invalid_argument(fmt::format("{} has several evaluations: name one with --evaluation ({})",
                                            folder.string(), fmt::join(found, ", ")));
  return found.empty() ? fs::path() : fs::path(found.front());
}

}  // namespace

MetricsFile read_metrics(const fs::path& file) {
  const JsonValue::Json text = read_json_file(file);
  const JsonValue json(text, file.string());
  MetricsFile metrics;
  metrics.map = json["mAP"].number_or_null();
  metrics.map_11_point = json["mAP_11_point"].number_or_null();
  metrics.mean_recall = json["mean_recall"].number_or_null();
  for (const auto& [name, value] : json["groups"].members()) metrics.groups.emplace_back(name, value.number_or_null());
  for (const auto& [name, value] : json["coco"].members()) metrics.coco.emplace_back(name, value.number_or_null());
  for (const JsonValue& one : json["classes"].list()) metrics.classes.push_back(read_class(one));
  if (json.has("confusion")) {
    for (const JsonValue& name : json["confusion"]["names"].list()) metrics.confusion_names.push_back(name.text());
    metrics.confusion = read_confusion(json["confusion"], metrics.confusion_names.size());
  }
  if (json.has("calibration"))
    for (const auto& [name, value] : json["calibration"].members())
      metrics.calibration.emplace_back(name, read_calibration(value));
  if (json.has("evaluation")) {
    const JsonValue evaluation = json["evaluation"];
    metrics.split = evaluation["split"].text();
    metrics.detector = evaluation["detector"].text();
    metrics.version = evaluation["version"].text();
    metrics.images = evaluation["images"].count();
  }
  if (json.has("images_at_max_per_image")) metrics.images_at_cap = json["images_at_max_per_image"].count();
  return metrics;
}

std::vector<std::string> RunFiles::classes() const {
  std::vector<std::string> names;
  if (metrics)
    for (const MetricsFile::Class& one : metrics->classes) names.push_back(one.result.name);
  else if (config)
    names = config->data.classes;
  return names;
}

std::string RunFiles::group_of(const std::string& name) const {
  if (metrics)
    for (const MetricsFile::Class& one : metrics->classes)
      if (one.result.name == name) return one.group;
  if (config)
    for (const auto& [group, members] : config->data.groups)
      if (std::find(members.begin(), members.end(), name) != members.end()) return group;
  return "";
}

RunFiles read_run(const fs::path& folder, const fs::path& evaluation, const std::vector<std::string>& overrides) {
  RunFiles run;
  run.folder = folder;
  for (const char* name : {"config.yaml", "run.yaml"})
    if (run.config_file.empty() && fs::exists(folder / name)) run.config_file = folder / name;
  if (!run.config_file.empty()) {
    run.config.emplace();
    ConfigSource(run.config_file, overrides).read_into(*run.config);
    // A run of an experiment was started in the experiment's folder, three levels above runs/NAME/seed_N.
    const bool given = std::any_of(overrides.begin(), overrides.end(),
                                   [](const std::string& one) { return one.starts_with("data.root="); });
    const fs::path there = folder / "../../.." / run.config->data.root;
    if (run.config_file.filename() == "run.yaml" && !given && fs::exists(there))
      run.config->data.root = there.lexically_normal().string();
  }
  if (fs::exists(folder / "log.jsonl")) run.log = read_training_log(folder);
  if (!evaluation.empty() && !has_metrics(evaluation))
    throw std::invalid_argument("--evaluation: " + evaluation.string() +
                                " has no metrics.json; it is the folder that `evaluate --output` has written");
  run.evaluation = evaluation.empty() ? find_evaluation(folder) : evaluation;
  if (!run.evaluation.empty()) run.metrics = read_metrics(run.evaluation / "metrics.json");
  run.finished = fs::exists(folder / "finished");
  return run;
}

}  // namespace gradlibra
