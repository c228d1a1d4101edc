// SPDX-License-Identifier: MIT
// A loss of the sigmoid family chosen at run time: what tests loop over.
#pragma once

#include <variant>

#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"

namespace gradlibra::testing {

using AnySigmoidLoss = std::variant<kernels::GradLibra, kernels::CrossEntropy, kernels::Focal>;

inline kernels::Entry<double> double_entry(double logit, bool positive, const AnySigmoidLoss& loss) {
  return std::visit(
      [&](const auto& member) {
        return kernels::sigmoid_entry(logit, {0, positive ? 0 : 1}, member.template weight<double>());
      },
      loss);
}

inline kernels::Entry<float> float_entry(float logit, bool positive, const AnySigmoidLoss& loss) {
  return std::visit(
      [&](const auto& member) {
        return kernels::sigmoid_entry(logit, {0, positive ? 0 : 1}, member.template weight<float>());
      },
      loss);
}

}  // namespace gradlibra::testing
