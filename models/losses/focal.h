// SPDX-License-Identifier: MIT
// Focal loss, model.loss.type=focal: kernels/losses/focal.h.
#pragma once

#include <memory>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// Its keys stand in model.loss itself.
struct FocalConfig {
  double gamma = 2.0;
  double alpha = -1;  // negative: no balance factor
  void describe(ConfigVisitor& v);
};

// std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_focal(Context& context, const LossConfig& config,
                                                             const ClassInfo& classes);

}  // namespace gradlibra
