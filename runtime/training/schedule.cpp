// SPDX-License-Identifier: MIT
#include "runtime/training/schedule.h"

namespace gradlibra {

void ScheduleConfig::describe(ConfigVisitor& v) {
  v.field("epochs", epochs, "passes over the training images", between(1, 1e6));
  v.field("lr", lr, "learning rate at total batch base_batch", at_least(0));
  v.field("base_batch", base_batch,
          "total batch that lr was chosen for: other batches scale it linearly; 0: no scaling", at_least(0));
  v.field("steps", steps, "epochs (from 0) from which the rate is multiplied by gamma once more", at_least(0));
  v.field("gamma", gamma, "factor at each step", at_least(0));
  v.choice("warmup", warmup, {"linear", "constant"}, "from warmup_ratio the rate rises, or stays there until the end");
  v.field("warmup_iterations", warmup_iterations, "iterations of warm-up", at_least(0));
  v.field("warmup_ratio", warmup_ratio, "share of the regular rate at iteration 0", at_least(0));
}

double scaled_lr(const ScheduleConfig& config, int64_t total_batch) {
  return config.base_batch > 0 ? config.lr * static_cast<double>(total_batch) / config.base_batch : config.lr;
}

double learning_rate(const ScheduleConfig& config, double base_lr, int64_t epoch, int64_t iteration) {
  double regular = base_lr;
  for (const int step : config.steps)
    if (epoch >= step) regular *= config.gamma;
  if (iteration >= config.warmup_iterations) return regular;
  if (config.warmup == "constant") return regular * config.warmup_ratio;
  const double progress = static_cast<double>(iteration) / config.warmup_iterations;
  return regular * (1 - (1 - progress) * (1 - config.warmup_ratio));
}

}  // namespace gradlibra
