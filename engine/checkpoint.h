// SPDX-License-Identifier: MIT
// What a checkpoint of a training run holds, and how it becomes a run or a detector again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/loading/loader.h"
#include "engine/experiment.h"
#include "models/detector.h"
#include "runtime/base/safetensors.h"

namespace gradlibra {

// Where a run stands between two steps.
struct TrainState {
  int64_t step = 0;  // optimiser steps done
  LoaderState loader;
};

// Weights under their MMDetection names, momentum as "optim.momentum.<name>", what losses accumulate as
// "train.state.<name>", and in the metadata: step, epoch, place in the epoch, seed, class list, boxes of each class in
// the training split, groups, the resolved configuration, program version.
[[nodiscard]] SafetensorsFile make_checkpoint(Detector& detector, const ExperimentConfig& config,
                                              const Dataset& dataset, const TrainState& state);

// std::runtime_error naming the file and what is missing or differs. Class list and boxes of each class must be the
// checkpoint's.
[[nodiscard]] TrainState restore_checkpoint(const SafetensorsFile& file, const std::string& name, Detector& detector,
                                            const Dataset& dataset);

// A detector for evaluation: configuration (with overrides), classes and weights from a checkpoint; no annotations are
// needed.
struct LoadedDetector {
  ExperimentConfig config;
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;
  std::unique_ptr<Detector> detector;
  int64_t step = 0;
};
[[nodiscard]] LoadedDetector load_detector(Context& context, const SafetensorsFile& file, const std::string& name,
                                           const std::vector<std::string>& overrides);

// `path` is a checkpoint file or a training's folder (its newest good checkpoint). Fills `used` with the file read.
[[nodiscard]] SafetensorsFile open_checkpoint(const std::filesystem::path& path, std::string& used);

}  // namespace gradlibra
