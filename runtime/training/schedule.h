// SPDX-License-Identifier: MIT
// The learning rate: warm-up by iteration, division by ten at given epochs (arXiv:2208.03779, sec. 4.1).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/config.h"

namespace gradlibra {

struct ScheduleConfig {
  int epochs = 12;
  double lr = 0.002;              // at total batch `base_batch`
  int base_batch = 32;            // the rate is scaled by total batch / base_batch; 0: used as it is
  std::vector<int> steps{8, 11};  // 0-based epochs from which the rate is multiplied by `gamma` once more
  double gamma = 0.1;
  std::string warmup = "linear";  // constant: warmup_ratio until it ends, as FCOS' first setting has it
  int warmup_iterations = 500;
  double warmup_ratio = 0.001;  // of the regular rate, at iteration 0
  void describe(ConfigVisitor& v);
};

// The base rate for a total batch (images per rank x ranks x accumulation).
[[nodiscard]] double scaled_lr(const ScheduleConfig& config, int64_t total_batch);

// regular(epoch) = base * gamma^{number of steps <= epoch};  during warm-up regular * (1 - (1 - it/W)(1 - ratio)), or
// regular * ratio where it is constant, full rate at it = W. `iteration` counts from 0 over the whole training; warm-up
// may reach across epochs and then follows their regular rate.
[[nodiscard]] double learning_rate(const ScheduleConfig& config, double base_lr, int64_t epoch, int64_t iteration);

}  // namespace gradlibra
