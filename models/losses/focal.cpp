// SPDX-License-Identifier: MIT
#include "models/losses/focal.h"

#include <stdexcept>

#include "kernels/losses/focal.h"
#include "models/losses/sigmoid_family.h"

namespace gradlibra {

void FocalConfig::describe(ConfigVisitor& v) {
  v.field("focal_gamma", gamma, "focal: exponent", at_least(0));
  v.field("focal_alpha", alpha, "focal: balance of positives, 0 to 1; negative for none", between(-1, 1));
}

std::unique_ptr<ClassificationLoss> make_focal(Context&, const LossConfig& config, const ClassInfo& classes) {
  const FocalConfig& focal = config.focal;
  if (!(focal.gamma >= 0)) throw std::invalid_argument("model.loss.focal_gamma must not be negative");
  if (!(focal.alpha <= 1)) throw std::invalid_argument("model.loss.focal_alpha must be at most 1 (negative: none)");
  return std::make_unique<SigmoidFamily<kernels::Focal>>(kernels::Focal{focal.gamma, focal.alpha}, config,
                                                         classes.count());
}

}  // namespace gradlibra
