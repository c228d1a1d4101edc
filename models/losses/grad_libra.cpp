// SPDX-License-Identifier: MIT
#include "models/losses/grad_libra.h"

#include <stdexcept>

#include "kernels/losses/grad_libra.h"
#include "models/losses/sigmoid_family.h"

namespace gradlibra {

namespace {

double parse_alpha(const std::string& text, const char* key) {
  if (text == "off") return kernels::kWeightOff;
  try {
    size_t used = 0;
    const double value = std::stod(text, &used);
    if (used == text.size() && value >= 0 && value <= 1) return value;
  } catch (const std::logic_error&) {
    // Falls through to the one message for everything that is not a number in range.
  }
  throw std::invalid_argument(std::string("model.loss.") + key + ": '" + text +
                              "' is neither a number from 0 to 1 nor off");
}

}  // namespace

void GradLibraConfig::describe(ConfigVisitor& v) {
  v.field("alpha_pos", alpha_pos, "Grad-Libra: alpha of positives, 0 to 1, or off (weight 1)");
  v.field("alpha_neg", alpha_neg, "Grad-Libra: alpha of negatives, 0 to 1, or off (weight 1)");
  v.choice("weight_grad", weight_grad, {"detach", "full"}, "Grad-Libra: is the weight a constant or differentiated");
}

std::unique_ptr<ClassificationLoss> make_grad_libra(Context&, const LossConfig& config, const ClassInfo& classes) {
  const kernels::GradLibra member{
      .alpha_pos = parse_alpha(config.grad_libra.alpha_pos, "alpha_pos"),
      .alpha_neg = parse_alpha(config.grad_libra.alpha_neg, "alpha_neg"),
      .weight_grad = config.grad_libra.weight_grad == "full" ? kernels::WeightGrad::full : kernels::WeightGrad::detach};
  return std::make_unique<SigmoidFamily<kernels::GradLibra>>(member, config, classes.count());
}

}  // namespace gradlibra
