// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/loss.h"

#include "kernels/elementwise.h"
#include "kernels/losses/binary_cross_entropy.h"
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
      kernels::smooth_l1(device, pred.view(), target.view(), weights.view(), row_scales.view(), beta,
                         {loss_weight, normalizer.view<double>(), loss.view<double>(), grad, workspace.view<double>()});
    });
  });
  return loss;
}

Tensor iou_loss(Tape& tape, Var pred, const Tensor& target, const Tensor& weights, const kernels::IouLoss& options,
                double loss_weight, const Tensor& normalizer) {
  const int64_t R = weights.size();
  require(pred.shape().size() == 4 * R && target.size() == 4 * R, "iou_loss",
          "pred " + pred.shape().to_string() + ", target " + target.shape().to_string() + " for " + std::to_string(R) +
              " weights");
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::iou_loss_workspace(R)}, DType::f64);
  with_loss_gradient(tape, pred, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::iou_loss(device, {pred.view().data(), {R, 4}}, target.view<float>({R, 4}), weights.view<float>({R}),
                        options,
                        {loss_weight,
                         normalizer.view<double>(),
                         loss.view<double>(),
                         {grad.data(), {R, 4}},
                         workspace.view<double>()});
    });
  });
  return loss;
}

Tensor binary_cross_entropy(Tape& tape, Var logits, const Tensor& targets, const Tensor& weights, double loss_weight,
                            const Tensor& normalizer) {
  const int64_t R = weights.size();
  require(logits.shape().size() == R && targets.size() == R, "binary_cross_entropy",
          "logits " + logits.shape().to_string() + ", targets " + targets.shape().to_string() + " for " +
              std::to_string(R) + " weights");
  Tensor loss = tape.context().empty({1}, DType::f64);
  Tensor workspace = tape.context().empty({kernels::binary_cross_entropy_workspace(R)}, DType::f64);
  with_loss_gradient(tape, logits, [&](View<float> grad) {
    tape.run([&](auto& device) {
      kernels::binary_cross_entropy(
          device, {logits.view().data(), {R}}, targets.view<float>({R}), weights.view<float>({R}),
          {loss_weight, normalizer.view<double>(), loss.view<double>(), {grad.data(), {R}}, workspace.view<double>()});
    });
  });
  return loss;
}

}  // namespace gradlibra::ops
