// SPDX-License-Identifier: MIT
// Smooth L1 loss on the host.
#include "kernels/losses/smooth_l1.h"

#include <algorithm>
#include <cmath>

#include "kernels/losses/loss_total.h"

namespace gradlibra::kernels {

int64_t smooth_l1_workspace(int64_t rows) { return chunk_count(rows, kSmoothL1Rows); }

void check_smooth_l1(View<const float> pred, View<const float> target, View<const float> weights,
                     View<const float> row_scales, float beta, const LossSum& out) {
  require(pred.rank() == 3 && pred.dim(2) == 4, "smooth_l1", "pred must be (N, P, 4), is " + pred.shape().to_string());
  const int64_t N = pred.dim(0), P = pred.dim(1);
  require_shape("smooth_l1", "target", target, {N, P, 4});
  require_shape("smooth_l1", "weights", weights, {N, P});
  require_shape("smooth_l1", "row_scales", row_scales, {P});
  require_shape("smooth_l1", "normalizer", out.normalizer, {1});
  require_shape("smooth_l1", "loss", out.loss, {1});
  require_shape("smooth_l1", "grad_pred", out.grad, {N, P, 4});
  require(beta > 0, "smooth_l1", "beta must be positive, is " + std::to_string(beta));
  require(out.workspace.size() >= smooth_l1_workspace(N * P), "smooth_l1", "workspace is too small");
}

void smooth_l1(Cpu& cpu, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, const LossSum& out) {
  check_smooth_l1(pred, target, weights, row_scales, beta, out);
  const int64_t N = pred.dim(0), P = pred.dim(1);
  const double scale = out.weight / out.normalizer[0];

  sum_loss(cpu, N * P, kSmoothL1Rows, scale, out.loss, out.workspace, [&](int64_t i, double& sum) {
    float* grad = out.grad.data() + 4 * i;
    const float w = weights[i], row_scale = row_scales[i % P];
    if (w == 0) {
      std::fill_n(grad, 4, 0.0f);
      return;
    }
    const float grad_scale = static_cast<float>(scale * static_cast<double>(w)) * row_scale;
    double row_sum = 0;
    for (int64_t c = 0; c < 4; ++c) {
      const float d = (pred[4 * i + c] - target[4 * i + c]) * row_scale;
      const bool quadratic = std::abs(d) < beta;
      row_sum += static_cast<double>(quadratic ? d * d / (2 * beta) : std::abs(d) - beta / 2);
      grad[c] = grad_scale * (quadratic ? d / beta : d > 0 ? 1 : d < 0 ? -1 : d);  // the last d is NaN
    }
    sum += static_cast<double>(w) * row_sum;
  });
}

}  // namespace gradlibra::kernels
