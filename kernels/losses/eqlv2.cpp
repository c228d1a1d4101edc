// SPDX-License-Identifier: MIT
// Equalization loss v2 on the host: the classes' weights, and what they are made of.
#include "kernels/losses/eqlv2.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_eqlv2_weights(View<const double> ratios, View<float> weights) {
  require(weights.rank() == 2 && weights.dim(0) == 2 && weights.dim(1) >= ratios.size(), "eqlv2_weights",
          "weights must be (2, K), are " + weights.shape().to_string());
}

void eqlv2_weights(Cpu&, View<const double> ratios, const EqlV2Options& options, View<float> weights) {
  check_eqlv2_weights(ratios, weights);
  const int64_t K = weights.dim(1);
  for (int64_t c = 0; c < K; ++c) {
    const EqlV2Weights w = c < ratios.size() ? eqlv2_class_weights(ratios[c], options) : EqlV2Weights{1, 1};
    weights[c] = static_cast<float>(w.negative);
    weights[K + c] = static_cast<float>(w.positive);
  }
}

int64_t eqlv2_gradients_workspace(int64_t R, int64_t C) { return chunk_count(R, eqlv2_rows(R)) * 2 * C; }

void check_eqlv2_gradients(View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                           View<const float> weights, View<double> gradients, View<double> workspace) {
  require(logits.rank() == 2 && gradients.rank() == 2, "eqlv2_gradients",
          "logits must be (R, K) and gradients (2, C), are " + logits.shape().to_string() + " and " +
              gradients.shape().to_string());
  const int64_t R = logits.dim(0), K = logits.dim(1), C = gradients.dim(1);
  require(K == C || K == C + 1, "eqlv2_gradients",
          std::to_string(K) + " channels for " + std::to_string(C) + " classes");
  require_shape("eqlv2_gradients", "labels", labels, {R});
  require_shape("eqlv2_gradients", "row_weights", row_weights, {R});
  require_shape("eqlv2_gradients", "weights", weights, {2, K});
  require_shape("eqlv2_gradients", "gradients", gradients, {2, C});
  require(workspace.size() >= eqlv2_gradients_workspace(R, C), "eqlv2_gradients", "workspace is too small");
}

void eqlv2_gradients(Cpu& cpu, View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                     View<const float> weights, View<double> gradients, View<double> workspace) {
  check_eqlv2_gradients(logits, labels, row_weights, weights, gradients, workspace);
  const int64_t R = logits.dim(0), K = logits.dim(1), C = gradients.dim(1), grain = eqlv2_rows(R);
  parallel_chunks(cpu, R, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
    double* sums = workspace.data() + chunk * 2 * C;
    std::fill_n(sums, 2 * C, 0.0);
    for (int64_t i = begin; i < end; ++i) {
      if (row_weights[i] == 0 || labels[i] < 0) continue;
      for (int64_t c = 0; c < C; ++c) {
        const bool positive = labels[i] == c;
        const double g = eqlv2_gradient_norm(logits[i * K + c], positive);
        sums[positive ? c : C + c] += double{row_weights[i]} * double{weights[positive ? K + c : c]} * g;
      }
    }
  });
  std::fill_n(gradients.data(), 2 * C, 0.0);
  for (int64_t chunk = 0; chunk < chunk_count(R, grain); ++chunk)
    for (int64_t k = 0; k < 2 * C; ++k) gradients[k] += workspace[chunk * 2 * C + k];
}

void check_eqlv2_accumulate(View<const double> gained, View<const float> ok, View<double> sums, View<double> ratios) {
  const int64_t C = ratios.size();
  require_shape("eqlv2_accumulate", "gained", gained, {2, C});
  require_shape("eqlv2_accumulate", "sums", sums, {2, C});
  require_shape("eqlv2_accumulate", "ok", ok, {1});
}

void eqlv2_accumulate(Cpu&, View<const double> gained, View<const float> ok, View<double> sums, View<double> ratios) {
  check_eqlv2_accumulate(gained, ok, sums, ratios);
  const int64_t C = ratios.size();
  if (!std::isfinite(ok[0])) return;
  for (int64_t k = 0; k < 2 * C; ++k) sums[k] += gained[k];
  for (int64_t c = 0; c < C; ++c) ratios[c] = sums[c] / (sums[C + c] + 1e-10);
}

void check_eqlv2_scores(View<const float> logits, View<float> scores) {
  require(logits.rank() == 2 && logits.dim(1) >= 1, "eqlv2_scores",
          "logits must be (R, C+1), are " + logits.shape().to_string());
  require_shape("eqlv2_scores", "scores", scores, {logits.dim(0), logits.dim(1) - 1});
}

void eqlv2_scores(Cpu& cpu, View<const float> logits, View<float> scores) {
  check_eqlv2_scores(logits, scores);
  const int64_t R = logits.dim(0), C = logits.dim(1) - 1;
  parallel_for(cpu, R, 256, [&](int64_t i) {
    const float* z = logits.data() + i * (C + 1);
    const float foreground = eqlv2_gradient_norm(z[C], true);
    for (int64_t c = 0; c < C; ++c) scores[i * C + c] = eqlv2_gradient_norm(z[c], false) * foreground;
  });
}

}  // namespace gradlibra::kernels
