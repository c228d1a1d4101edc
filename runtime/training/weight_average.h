// SPDX-License-Identifier: MIT
// The moving average of a model's weights over its training steps, which often detects better than the weights
// themselves.
#pragma once

#include <string>

#include "runtime/base/safetensors.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

// average <- decay * average + (1 - decay) * value after each step, for every parameter and every buffer (running
// statistics); it starts at the values. After n steps the start still counts decay^n.
class WeightAverage {
 public:
  // Takes the values as they are now. `decay` in [0, 1).
  WeightAverage(ParameterStore& parameters, double decay);

  // Enqueues one step; nobody waits.
  void update();
  // The averages take the values' place in the model and the other way round: around an evaluation.
  void swap();

  // As "average.<name>", laid out as the weights.
  void save(SafetensorsFile& file);
  // false, and the averages are the values as they are now, if the file has none; std::runtime_error if one is missing
  // or of another shape.
  [[nodiscard]] bool load(const SafetensorsFile& file, const std::string& file_name);

 private:
  void restart();

  ParameterStore& parameters_;
  float decay_;
  Tensor trained_, fixed_;  // of the store's two blocks
};

// Puts a file's averages into its weights' place, and says whether it has any. What they were goes.
bool use_average(SafetensorsFile& file);

}  // namespace gradlibra
