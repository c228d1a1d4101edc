// SPDX-License-Identifier: MIT
// The one place where a detector comes into being, for training and for everything else: the order matters, and each
// program would otherwise have to know it.
#pragma once

#include <functional>
#include <memory>

#include "engine/experiment_config.h"
#include "models/detector.h"
#include "runtime/training/optimizer.h"
#include "runtime/training/weight_average.h"

namespace gradlibra {

// Puts values into a detector: from a checkpoint or a weight file (engine/checkpoint.h).
using LoadValues = std::function<void(Detector&)>;

struct Training {
  std::unique_ptr<Detector> detector;
  std::unique_ptr<Optimizer> optimizer;    // of the detector's parameters
  std::unique_ptr<WeightAverage> average;  // nullptr: none is wanted
};

// What trains: the context is configured first (precision decides what a detector allocates), then the detector made
// and filled with the random values of train.seed, then `load` replaces what it has better values for, then the
// optimiser reads which parameters train, and the moving average starts at what is there. std::invalid_argument names
// the key of the configuration that does not fit.
[[nodiscard]] Training build_training(Context& context, const ExperimentConfig& config, ClassInfo classes,
                                      const LoadValues& load = {});

// What only looks: the same without an optimiser, and without random values where `load` is given, which must then set
// every one.
[[nodiscard]] std::unique_ptr<Detector> build_detector(Context& context, const ExperimentConfig& config,
                                                       ClassInfo classes, const LoadValues& load = {});

}  // namespace gradlibra
