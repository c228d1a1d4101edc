// SPDX-License-Identifier: MIT
// Overlap losses on the host. The formula of a pair is in iou_entry.h.
#include "kernels/losses/iou_loss.h"

#include <algorithm>

#include "kernels/losses/iou_entry.h"
#include "kernels/losses/loss_total.h"

namespace gradlibra::kernels {

int64_t iou_loss_workspace(int64_t rows) { return chunk_count(rows, kIouLossRows); }

void check_iou_loss(View<const float> pred, View<const float> target, View<const float> weights, const IouLoss& options,
                    const LossSum& out) {
  const char* const op = "iou_loss";
  require(pred.rank() == 2 && pred.dim(1) == 4, op, "pred must be (R, 4), is " + pred.shape().to_string());
  const int64_t R = pred.dim(0);
  require_shape(op, "target", target, {R, 4});
  require_shape(op, "weights", weights, {R});
  require_shape(op, "normalizer", out.normalizer, {1});
  require_shape(op, "loss", out.loss, {1});
  require_shape(op, "grad_pred", out.grad, {R, 4});
  require(options.eps > 0, op, "eps must be positive, is " + std::to_string(options.eps));
  require(out.workspace.size() >= iou_loss_workspace(R), op, "workspace is too small");
}

void iou_loss(Cpu& cpu, View<const float> pred, View<const float> target, View<const float> weights,
              const IouLoss& options, const LossSum& out) {
  check_iou_loss(pred, target, weights, options, out);
  const double scale = out.weight / out.normalizer[0];
  sum_loss(cpu, pred.dim(0), kIouLossRows, scale, out.loss, out.workspace, [&](int64_t i, double& sum) {
    float* grad = out.grad.data() + 4 * i;
    const double w = weights[i];
    if (w == 0) {
      std::fill_n(grad, 4, 0.0f);
      return;
    }
    const IouEntry entry = iou_entry(pred.data() + 4 * i, target.data() + 4 * i, options);
    sum += w * entry.loss;
    for (int c = 0; c < 4; ++c) grad[c] = static_cast<float>(scale * w * entry.grad[c]);
  });
}

}  // namespace gradlibra::kernels
