// SPDX-License-Identifier: MIT
// Converted weights of no training, for tests of programs to which it does not matter what is found.
#pragma once

#include "models/detector.h"
#include "runtime/training/weights.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {

// tiny.yaml and weights.safetensors, a detector that finds things everywhere, with scores of at least `least_score`.
inline void put_start_weights(const TemporaryFolder& folder, double least_score) {
  ExperimentConfig config = tiny_config("");
  config.model.test.score_threshold = least_score;
  put(folder / "tiny.yaml", to_yaml(config));
  Context context(1);
  Detector detector(context, config.model, 3);
  detector.parameters().initialize(1);
  SafetensorsFile weights;
  save_weights(detector.parameters(), weights);
  write_safetensors(folder / "weights.safetensors", weights);
}

}  // namespace gradlibra
