// SPDX-License-Identifier: MIT
// The losses of runtime/ops.h: one fused kernel gives the value and the gradient, so nothing is recorded on the tape.
#include "kernels/elementwise.h"
#include "kernels/smooth_l1.h"
#include "runtime/ops.h"

namespace gradlibra::ops {

namespace {

// Calls body(grad) with the memory the loss kernel writes its gradient to; adds it up if another loss already wrote one.
template <class Body>
void with_gradient(Tape& tape, Var input, Body&& body) {
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

}  // namespace

Tensor sigmoid_loss(Tape& tape, Var logits, const Tensor& labels, const Tensor& weights,
                    const kernels::SigmoidLoss& options, double loss_weight, const Tensor& normalizer) {
  const int64_t C = logits.dim(-1), rows = labels.size();
  require(logits.shape().size() == rows * C, "sigmoid_loss",
          "logits " + logits.shape().to_string() + " for " + std::to_string(rows) + " labels");
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::sigmoid_loss_workspace(rows, C)}, DType::f64);
  with_gradient(tape, logits, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::sigmoid_loss(device, {logits.view().data(), {rows, C}}, labels.view<int32_t>({rows}),
                            weights.view<float>({rows}), options, loss_weight, normalizer.view<double>(),
                            loss.view<double>(), {grad.data(), {rows, C}}, workspace.view<double>());
    });
  });
  return loss;
}

Tensor smooth_l1(Tape& tape, Var pred, const Tensor& target, const Tensor& weights, const Tensor& row_scales,
                 float beta, double loss_weight, const Tensor& normalizer) {
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::smooth_l1_workspace(weights.size())}, DType::f64);
  with_gradient(tape, pred, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::smooth_l1(device, pred.view(), target.view(), weights.view(), row_scales.view(), beta, loss_weight,
                         normalizer.view<double>(), loss.view<double>(), grad, workspace.view<double>());
    });
  });
  return loss;
}

}  // namespace gradlibra::ops
