// SPDX-License-Identifier: MIT
// What a training and its evaluation have left in their folders, read and checked.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/metrics/metrics.h"
#include "engine/experiment_config.h"
#include "engine/training_log.h"

namespace gradlibra {

// metrics.json of `evaluate`. What older versions did not write yet is empty.
struct MetricsFile {
  using Named = std::pair<std::string, std::optional<double>>;
  struct Class {
    ClassResult result;
    std::string group;  // empty: none
  };
  std::optional<double> map, map_11_point, mean_recall;
  std::vector<Named> groups, coco;  // "AP_f", "mR_f", ..; "AP", "AP50", ..
  std::vector<Class> classes;
  std::vector<std::string> confusion_names;
  std::optional<ConfusionMatrix> confusion;
  std::vector<std::pair<std::string, Calibration>> calibration;  // "all", then groups
  std::string split, detector, version;
  std::optional<int64_t> images, images_at_cap;
};
// std::runtime_error names the file and the place of what is missing or of another kind.
[[nodiscard]] MetricsFile read_metrics(const std::filesystem::path& file);

struct RunFiles {
  std::filesystem::path folder;
  std::filesystem::path evaluation;        // folder with metrics.json; empty: there is none
  std::filesystem::path config_file;       // config.yaml, or run.yaml of an experiment's run; empty: there is none
  std::optional<ExperimentConfig> config;  // with the overrides
  std::optional<TrainingLog> log;
  std::optional<MetricsFile> metrics;
  bool finished = false;  // the training got to its end

  // Of the metrics, else of the configuration.
  [[nodiscard]] std::vector<std::string> classes() const;
  [[nodiscard]] std::string group_of(const std::string& name) const;  // empty: none
};

// Of a training's --work-dir, or of a run under an experiment's runs/. `evaluation` empty: metrics.json in the folder
// itself or in one just below; std::invalid_argument if several have one.
[[nodiscard]] RunFiles read_run(const std::filesystem::path& folder, const std::filesystem::path& evaluation,
                                const std::vector<std::string>& overrides);

}  // namespace gradlibra
