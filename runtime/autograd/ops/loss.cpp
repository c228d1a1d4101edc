// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/loss.h"

#include "kernels/elementwise.h"
#include "kernels/losses/smooth_l1.h"

namespace gradlibra::ops {

void with_loss_gradient(Tape& tape, Var input, const std::function<void(View<float>)>& body) {
  Tensor scratch;
  if (input.requires_grad()) {
    const auto target = tape.grad_of(input);
    if (target.mode == Accumulate::overwrite) {
      body(target.grad);
      return;
    }
    scratch = tape.context().empty(input.shape());
    body(scratch.view());
    tape.run([&](auto& device) { kernels::copy(device, std::as_const(scratch).view(), target.grad, Accumulate::add); });
    return;
  }
  scratch = tape.context().empty(input.shape());
  body(scratch.view());
}

Tensor smooth_l1(Tape& tape, Var pred, const Tensor& target, const Tensor& weights, const Tensor& row_scales,
                 float beta, double loss_weight, const Tensor& normalizer) {
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::smooth_l1_workspace(weights.size())}, DType::f64);
  with_loss_gradient(tape, pred, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::smooth_l1(device, pred.view(), target.view(), weights.view(), row_scales.view(), beta, loss_weight,
                         normalizer.view<double>(), loss.view<double>(), grad, workspace.view<double>());
    });
  });
  return loss;
}

}  // namespace gradlibra::ops
