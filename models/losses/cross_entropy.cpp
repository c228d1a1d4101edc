// SPDX-License-Identifier: MIT
#include "models/losses/cross_entropy.h"

#include "kernels/losses/cross_entropy.h"
#include "models/losses/sigmoid_family.h"

namespace gradlibra {

std::unique_ptr<ClassificationLoss> make_cross_entropy(Context&, const LossConfig& config, const ClassInfo& classes) {
  return std::make_unique<SigmoidFamily<kernels::CrossEntropy>>(kernels::CrossEntropy{}, config, classes.count());
}

}  // namespace gradlibra
