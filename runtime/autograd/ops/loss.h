// SPDX-License-Identifier: MIT
// Losses: the value is a double on the device, normalised and weighted; one fused kernel gives it and the gradient,
// which is written into the input at once, so nothing is recorded on the tape.
#pragma once

#include <functional>

#include "kernels/losses/iou_loss.h"
#include "kernels/losses/sigmoid_loss.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// Calls body(grad) with memory of input's shape for a loss kernel to write its gradient to, every element of it. If
// another loss has written one already, it is added up; if nobody wants it, it is dropped.
void with_loss_gradient(Tape& tape, Var input, const std::function<void(View<float> grad)>& body);

// A loss of the sigmoid family (kernels/losses/sigmoid_loss.h): logits (.., C); labels and weights, one per row.
template <class Loss>
[[nodiscard]] Tensor sigmoid_loss(Tape& tape, Var logits, const Tensor& labels, const Tensor& weights,
                                  const Loss& member, double loss_weight, const Tensor& normalizer) {
  const int64_t C = logits.dim(-1), rows = labels.size();
  require(logits.shape().size() == rows * C, "sigmoid_loss",
          "logits " + logits.shape().to_string() + " for " + std::to_string(rows) + " labels");
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::sigmoid_loss_workspace(rows, C)}, DType::f64);
  with_loss_gradient(tape, logits, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::sigmoid_loss(device, {logits.view().data(), {rows, C}}, labels.view<int32_t>({rows}),
                            weights.view<float>({rows}), member,
                            {loss_weight,
                             normalizer.view<double>(),
                             loss.view<double>(),
                             {grad.data(), {rows, C}},
                             workspace.view<double>()});
    });
  });
  return loss;
}

// Of boxes (N, P, 4): kernels/losses/smooth_l1.h.
[[nodiscard]] Tensor smooth_l1(Tape& tape, Var pred, const Tensor& target, const Tensor& weights,
                               const Tensor& row_scales, float beta, double loss_weight, const Tensor& normalizer);

// Of boxes or distances (.., 4), target of the same shape, weights one per row: kernels/losses/iou_loss.h.
[[nodiscard]] Tensor iou_loss(Tape& tape, Var pred, const Tensor& target, const Tensor& weights,
                              const kernels::IouLoss& options, double loss_weight, const Tensor& normalizer);

// Of logits, targets and weights with equally many elements: kernels/losses/binary_cross_entropy.h.
[[nodiscard]] Tensor binary_cross_entropy(Tape& tape, Var logits, const Tensor& targets, const Tensor& weights,
                                          double loss_weight, const Tensor& normalizer);

}  // namespace gradlibra::ops
