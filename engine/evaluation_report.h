// SPDX-License-Identifier: MIT
// What an evaluation tells: a table for the terminal, and a folder of files.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "data/metrics/metrics.h"
#include "engine/experiment_config.h"

namespace gradlibra {

struct EvaluationReport {
  std::string detector;  // what made the detections, for metrics.json
  Split split = Split::test;
  VocOptions voc;
  CocoOptions coco;
  int bootstrap = 0;             // resampled splits that tell how far mAP depends on the images; 0: none
  int pictures = 0;              // so many images with their detections, in output/pictures
  std::filesystem::path output;  // for metrics.json, metrics.txt and detections.json; empty: no file is written
};

// By the names that `evaluate --voc-convention` and metrics.json have for them.
[[nodiscard]] const std::map<std::string, VocConvention>& voc_conventions();

// Prints the table of the detections, which are those of the dataset's images in order, and writes the files.
void report_evaluation(const EvaluationReport& report, const ExperimentConfig& config, const Dataset& dataset,
                       const Detections& detections);

}  // namespace gradlibra
