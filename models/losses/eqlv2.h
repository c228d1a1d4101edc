// SPDX-License-Identifier: MIT
// Equalization loss v2 (arXiv:2012.08548), model.loss.type=eqlv2: cross-entropy that lowers the negatives of a class as
// long as little positive gradient has come to it, and raises its positives. Formulas: kernels/losses/eqlv2.h.
#pragma once

#include <memory>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// model.loss.eqlv2
struct EqlV2Config {
  double gamma = 12, mu = 0.8, alpha = 4;
  bool objectness_channel = false;
  void describe(ConfigVisitor& v);
};

// std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_eqlv2(Context& context, const LossConfig& config,
                                                             const ClassInfo& classes);

}  // namespace gradlibra
