// SPDX-License-Identifier: MIT
// One configuration file describes an experiment: data, model, schedule, and how to run.
#pragma once

#include <string>

#include "data/datasets/dataset.h"
#include "data/loading/loader.h"
#include "data/synthetic/synthesize.h"
#include "models/config.h"
#include "runtime/base/config.h"
#include "runtime/base/runtime_config.h"
#include "runtime/training/optimizer.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

struct TrainConfig {
  int64_t seed = 1;
  std::string pretrained = "";            // safetensors: a torchvision ResNet or a detector; empty: from scratch
  std::string pretrained_scope = "auto";  // auto: all that the file holds; backbone: no more of a detector than that
  int log_every = 20;                     // steps between progress lines
  int checkpoint_every = 0;               // steps between checkpoints; 0: once per epoch
  int keep_checkpoints = 2;
  int evaluate_every = 0;       // epochs between evaluations on the validation split; 0: never
  bool class_gradients = true;  // record the ratio of gradients and the classifier's norm of each class
  int max_non_finite = 0;       // steps with a non-finite gradient norm that are skipped in a row before training stops
  void describe(ConfigVisitor& v);
};

struct ExperimentConfig {
  DatasetConfig data;
  LoaderConfig loader;
  ModelConfig model;
  ScheduleConfig schedule;
  OptimizerConfig optimizer;
  TrainConfig train;
  RuntimeConfig runtime;
  SynthesizeConfig synthesize;
  void describe(ConfigVisitor& v);
};

// How many classes a detector of this configuration has before its data set is read: those listed, else those of the
// synthetic smears.
[[nodiscard]] int class_count(const ExperimentConfig& config);

}  // namespace gradlibra
