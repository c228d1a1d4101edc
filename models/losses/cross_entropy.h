// SPDX-License-Identifier: MIT
// Sigmoid cross-entropy, model.loss.type=cross_entropy: kernels/losses/cross_entropy.h. It has no options of its own.
#pragma once

#include <memory>

#include "models/classes.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

[[nodiscard]] std::unique_ptr<ClassificationLoss> make_cross_entropy(Context& context, const LossConfig& config,
                                                                     const ClassInfo& classes);

}  // namespace gradlibra
