// SPDX-License-Identifier: MIT
// What the commands of `inspect` do. Each prints what it finds and gives the exit code.
#pragma once

#include <string>
#include <vector>

#include "data/datasets/split_dataset.h"
#include "engine/program.h"

namespace gradlibra {

// The resolved configuration with a comment on each key.
int inspect_config(const CommonOptions& common);
// Checks the data set; the report, and pictures with the truth drawn in, into `output` if it is not empty. kFindings if
// there are defects.
int inspect_data(const CommonOptions& common, const std::string& output, int pictures, int shown);
// Divides the training split into lists of files.
int inspect_split(const CommonOptions& common, const DivideOptions& options, const std::string& output);
// Parameters and multiply-adds of every part; of `weights`, if it is not empty, whether they fit.
int inspect_model(const CLI::App& app, const CommonOptions& common, const std::string& weights, bool json);
// A forward and backward pass into a file: with which weights, of which images.
struct StepChoices {
  std::string weights;           // a file; empty: those of train.pretrained
  std::string checkpoint;        // instead: of a training, with what its loss has accumulated
  std::vector<std::string> ids;  // of training images; empty: the first batch
  std::string batch;             // instead: a file that training wrote
  std::string output;
};
int inspect_training_step(const CommonOptions& common, const StepChoices& choices);
// Figures of a training as SVG.
int inspect_training(const std::string& work_dir, const std::string& output);

// Options of `inspect scaling`; the model is that of engine/scaling.h.
struct ScalingChoices {
  double step_ms = 0, host_gb_per_s = 360, network_gb_per_s = 45, bucket_mib = 25, jitter_percent = 0.5;
  int ranks_per_host = 8;
  std::string replay;
  std::vector<int> ranks = {1, 4, 8, 64, 512};

  void add_to(CLI::App& command);
};
int inspect_scaling(const CommonOptions& common, const ScalingChoices& choices);

}  // namespace gradlibra
