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
#include "runtime/distributed/distributed_config.h"
#include "runtime/training/optimizer.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

struct TrainConfig {
  int64_t seed = 1;
  std::string pretrained = "";            // safetensors: a torchvision ResNet or a detector; empty: from scratch
  std::string pretrained_scope = "auto";  // of the file: auto: all; backbone: no more; no_classifier: all but that
  int log_every = 20;                     // steps between progress lines
  int checkpoint_every = 0;               // steps between checkpoints; 0: once per epoch
  int keep_checkpoints = 2;               // 0 or -1: all
  int evaluate_every = -1;      // epochs between validations; 0: never; -1: every epoch if there is a validation split
  int patience = 0;             // validations without a better mAP after which training ends; 0: never
  double average_decay = 0;     // of the moving average of the weights; 0: none
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
  DistributedConfig distributed;
  SynthesizeConfig synthesize;
  void describe(ConfigVisitor& v);
};

// How many classes a detector of this configuration has before its data set is read: those listed, else those of the
// synthetic smears.
[[nodiscard]] int class_count(const ExperimentConfig& config);

}  // namespace gradlibra
