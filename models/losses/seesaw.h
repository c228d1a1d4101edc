// SPDX-License-Identifier: MIT
// Seesaw loss (arXiv:2008.10032), model.loss.type=seesaw: a softmax over the classes in which rare classes suffer less
// from the positives of frequent ones, and one objectness logit. Formulas: kernels/losses/seesaw.h.
#pragma once

#include <memory>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// model.loss.seesaw
struct SeesawConfig {
  double p = 0.8, q = 2.0, eps = 0.01;
  void describe(ConfigVisitor& v);
};

// std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_seesaw(Context& context, const LossConfig& config,
                                                              const ClassInfo& classes);

}  // namespace gradlibra
