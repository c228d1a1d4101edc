// SPDX-License-Identifier: MIT
// Grad-Libra (arXiv:2208.03779), model.loss.type=grad_libra: formula and gradient in kernels/losses/grad_libra.h.
#pragma once

#include <memory>
#include <string>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// Its keys stand in model.loss itself.
struct GradLibraConfig {
  std::string alpha_pos = "0.8", alpha_neg = "0.8";  // a number in [0, 1] or "off"
  std::string weight_grad = "detach";
  void describe(ConfigVisitor& v);
};

// std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_grad_libra(Context& context, const LossConfig& config,
                                                                  const ClassInfo& classes);

}  // namespace gradlibra
