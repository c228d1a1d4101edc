// SPDX-License-Identifier: MIT
// Sigmoid losses on the host. The formulas of an entry are in kernels/sigmoid_entry.h.
#include "kernels/sigmoid_loss.h"

#include <algorithm>

#include "kernels/parallel.h"
#include "kernels/sigmoid_entry.h"

namespace gradlibra::kernels {

int64_t sigmoid_loss_workspace(int64_t rows, int64_t) { return chunk_count(rows, kSigmoidLossRows); }

void sigmoid_loss(Cpu& cpu, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const SigmoidLoss& options, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace) {
  require(logits.rank() == 2, "sigmoid_loss", "logits must be (R, C), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require_shape("sigmoid_loss", "labels", labels, {R});
  require_shape("sigmoid_loss", "weights", weights, {R});
  require_shape("sigmoid_loss", "normalizer", normalizer, {1});
  require_shape("sigmoid_loss", "loss", loss, {1});
  require_shape("sigmoid_loss", "grad_logits", grad_logits, {R, C});
  const int64_t chunks = sigmoid_loss_workspace(R, C);
  require(workspace.size() >= chunks, "sigmoid_loss", "workspace is too small");
  const EntryOptions<float> entry_opts = entry_options<float>(options);
  const double scale = loss_weight / normalizer[0];

  parallel_chunks(cpu, R, kSigmoidLossRows, [&](int64_t chunk, int64_t begin, int64_t end) {
    double chunk_sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      const float* z = logits.data() + i * C;
      float* grad = grad_logits.data() + i * C;
      if (weights[i] == 0 || labels[i] < 0) {
        std::fill_n(grad, C, 0.0f);
        continue;
      }
      const double w = weights[i];
      const float row_scale = static_cast<float>(scale * w);
      double row_sum = 0;
      for (int64_t c = 0; c < C; ++c) {
        const Entry<float> entry = sigmoid_entry(z[c], c == labels[i], entry_opts);
        row_sum += static_cast<double>(entry.loss);
        grad[c] = row_scale * entry.grad;
      }
      chunk_sum += w * row_sum;
    }
    workspace[chunk] = chunk_sum;
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += workspace[chunk];
  loss[0] = scale * total;
}

void sigmoid(Cpu& cpu, View<const float> logits, View<float> scores) {
  require_shape("sigmoid", "scores", scores, logits.shape());
  parallel_for(cpu, logits.size(), 4096, [&](int64_t i) {
    const float z = logits[i], e = std::exp(-std::abs(z));
    scores[i] = (z >= 0 ? 1 : e) / (1 + e);
  });
}

LossEntry sigmoid_loss_entry(double logit, bool positive, const SigmoidLoss& options) {
  const Entry<double> entry = sigmoid_entry(logit, positive, entry_options<double>(options));
  return {entry.loss, entry.grad};
}

}  // namespace gradlibra::kernels
