// SPDX-License-Identifier: MIT
// Class-balanced loss by effective numbers (arXiv:1901.05555), model.loss.type=class_balanced: a class that many boxes
// of the training split belong to counts less. Formula and gradient of an entry: kernels/losses/class_balanced.h.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// model.loss.class_balanced
struct ClassBalancedConfig {
  double beta = 0.9999;
  std::string base = "cross_entropy";
  double gamma = 2.0;  // of base focal
  std::string apply = "row";
  double background_weight = 1.0;  // of background rows, where rows are weighed
  void describe(ConfigVisitor& v);
};

// E_c = (1 - beta^n_c) / (1 - beta), 0 <= beta < 1: how many of n_c samples add something new.
[[nodiscard]] std::vector<double> effective_numbers(std::span<const int64_t> instances, double beta);
// w_c = C_p u_c / sum u, u_c = 1 / E_c, over the C_p classes with instances: their mean is 1. A class without has 1.
[[nodiscard]] std::vector<double> class_balanced_weights(std::span<const int64_t> instances, double beta);

// std::invalid_argument names the key for values out of range. Without the classes' instances it detects, but its
// loss() throws.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_class_balanced(Context& context, const LossConfig& config,
                                                                      const ClassInfo& classes);

}  // namespace gradlibra
