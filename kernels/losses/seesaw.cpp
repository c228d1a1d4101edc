// SPDX-License-Identifier: MIT
// Seesaw loss on the host. A row's formulas are in the header.
#include "kernels/losses/seesaw.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/losses/loss_total.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t seesaw_loss_workspace(int64_t R) { return chunk_count(R, kSeesawRows); }

void check_seesaw_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                       View<const double> counts, View<const double> gained, const SeesawOptions& options,
                       const LossSum& out) {
  require(logits.rank() == 2 && logits.dim(1) >= 2 && logits.dim(1) < std::numeric_limits<int>::max(), "seesaw_loss",
          "logits must be (R, C+1), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0), C = logits.dim(1) - 1;
  require_shape("seesaw_loss", "labels", labels, {R});
  require_shape("seesaw_loss", "weights", weights, {R});
  require_shape("seesaw_loss", "counts", counts, {C});
  require_shape("seesaw_loss", "gained", gained, {C});
  require_shape("seesaw_loss", "normalizer", out.normalizer, {1});
  require_shape("seesaw_loss", "loss", out.loss, {1});
  require_shape("seesaw_loss", "grad_logits", out.grad, {R, C + 1});
  require(options.p >= 0 && options.q >= 0 && options.eps >= 0, "seesaw_loss",
          "p, q and eps must not be negative, are " + std::to_string(options.p) + ", " + std::to_string(options.q) +
              " and " + std::to_string(options.eps));
  require(out.workspace.size() >= seesaw_loss_workspace(R), "seesaw_loss", "workspace is too small");
}

void check_seesaw_scores(View<const float> logits, View<float> scores) {
  require(logits.rank() == 2 && logits.dim(1) >= 2 && logits.dim(1) < std::numeric_limits<int>::max(), "seesaw_scores",
          "logits must be (R, C+1), are " + logits.shape().to_string());
  require_shape("seesaw_scores", "scores", scores, {logits.dim(0), logits.dim(1) - 1});
}

void seesaw_loss(Cpu& cpu, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                 View<const double> counts, View<const double> gained, const SeesawOptions& options,
                 const LossSum& out) {
  check_seesaw_loss(logits, labels, weights, counts, gained, options, out);
  const int64_t R = logits.dim(0), K = logits.dim(1);
  const double scale = out.weight / out.normalizer[0];
  const SeesawRow row = {counts.data(), gained.data(), static_cast<int>(K - 1),
                         options.p,     options.q,     std::log(options.eps)};
  sum_loss(cpu, R, kSeesawRows, scale, out.loss, out.workspace, [&](int64_t i, double& sum) {
    float* grad = out.grad.data() + i * K;
    if (weights[i] == 0 || labels[i] < 0)
      std::fill_n(grad, K, 0.0f);
    else
      sum += row(logits.data() + i * K, labels[i], double{weights[i]}, scale * double{weights[i]}, grad);
  });
}

void seesaw_scores(Cpu& cpu, View<const float> logits, View<float> scores) {
  check_seesaw_scores(logits, scores);
  const int64_t R = logits.dim(0), K = logits.dim(1);
  parallel_for(cpu, R, 64, [&](int64_t i) {
    seesaw_row_scores(logits.data() + i * K, static_cast<int>(K - 1), scores.data() + i * (K - 1));
  });
}

}  // namespace gradlibra::kernels
