// SPDX-License-Identifier: MIT
// What a checkpoint of a training run holds, and how it becomes a run or a detector again.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loading/loader.h"
#include "engine/experiment_config.h"
#include "models/detector.h"
#include "runtime/base/safetensors.h"

namespace gradlibra {

// What the validations so far have shown.
struct Validations {
  int64_t epochs = 0;              // validated up to the end of this many
  std::optional<double> best_map;  // none: no validation yet that had truth
  int64_t best_step = 0;
  int64_t without_gain = 0;  // since the best one
  std::string data;          // hash of the validation data; empty: of an older program, or no validation
};

// Where a run stands between two steps.
struct TrainState {
  int64_t step = 0;             // optimiser steps done
  int64_t skipped_updates = 0;  // among them: without an update, for their gradient was not finite
  LoaderState loader;
  Validations validations;
};

// Tells a changed data set: image ids, sizes, boxes and labels, in order.
struct DataMark {
  int64_t images = 0, boxes = 0;
  std::string hash;
};
[[nodiscard]] DataMark mark_of(const Dataset& dataset);

// Weights under their MMDetection names, momentum as "optim.momentum.<name>", what losses accumulate as
// "train.state.<name>", and in the metadata: step, epoch, place in the epoch, seed, validations, class list, boxes of
// each class in the training split, groups, mark of the data, the resolved configuration, version and commit of the
// program, versions of the device's libraries.
[[nodiscard]] SafetensorsFile make_checkpoint(Detector& detector, const ExperimentConfig& config,
                                              const Dataset& dataset, const TrainState& state);

// std::runtime_error naming the file and what is missing or differs. The class list must be the checkpoint's, and the
// data, unless `changed_data` says that they may be others.
[[nodiscard]] TrainState restore_checkpoint(const SafetensorsFile& file, const std::string& name, Detector& detector,
                                            const Dataset& dataset, bool changed_data = false);

// The configuration that a checkpoint was written with.
[[nodiscard]] ExperimentConfig stored_config(const SafetensorsFile& file, const std::string& name,
                                             const std::vector<std::string>& overrides = {});

// A file of weights, where it came from, and what was wrong with newer ones: to be shown, empty in normal operation.
struct OpenedCheckpoint {
  SafetensorsFile file;
  std::string name;
  std::vector<std::string> problems;
};
// `path` is a checkpoint, any other safetensors file with weights, or a training's folder (its newest good checkpoint).
[[nodiscard]] OpenedCheckpoint open_checkpoint(const std::filesystem::path& path);
// Whether a file was written by make_checkpoint: it brings its configuration and classes.
[[nodiscard]] bool is_checkpoint(const SafetensorsFile& file);

// A detector for everything but training.
struct LoadedDetector {
  ExperimentConfig config;
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> groups;
  std::unique_ptr<Detector> detector;
  int64_t step = 0;       // 0 for plain weights
  bool averaged = false;  // its weights are the moving average (train.average_decay)
  std::string name;       // the file
  std::string weights;    // what of the file fitted, for a person
};
// Weights from the file; configuration (with overrides) and class list too, or where `config_file` is not empty from
// there, which plain weights need: std::invalid_argument tells what is missing.
[[nodiscard]] LoadedDetector load_detector(Context& context, OpenedCheckpoint opened, const std::string& config_file,
                                           const std::vector<std::string>& overrides);

// The values of train.pretrained (a file of weights, not of this program alone) by train.pretrained_scope. What to
// show.
[[nodiscard]] std::string load_pretrained(Detector& detector, const TrainConfig& train);

}  // namespace gradlibra
