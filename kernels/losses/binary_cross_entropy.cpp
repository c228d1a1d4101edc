// SPDX-License-Identifier: MIT
// Binary cross-entropy on the host.
#include "kernels/losses/binary_cross_entropy.h"

#include "kernels/losses/loss_total.h"

namespace gradlibra::kernels {

int64_t binary_cross_entropy_workspace(int64_t rows) { return chunk_count(rows, kBinaryCrossEntropyRows); }

void check_binary_cross_entropy(View<const float> logits, View<const float> targets, View<const float> weights,
                                const LossSum& out) {
  const char* const op = "binary_cross_entropy";
  require(logits.rank() == 1, op, "logits must be (R), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0);
  require_shape(op, "targets", targets, {R});
  require_shape(op, "weights", weights, {R});
  require_shape(op, "normalizer", out.normalizer, {1});
  require_shape(op, "loss", out.loss, {1});
  require_shape(op, "grad_logits", out.grad, {R});
  require(out.workspace.size() >= binary_cross_entropy_workspace(R), op, "workspace is too small");
}

void binary_cross_entropy(Cpu& cpu, View<const float> logits, View<const float> targets, View<const float> weights,
                          const LossSum& out) {
  check_binary_cross_entropy(logits, targets, weights, out);
  const double scale = out.weight / out.normalizer[0];
  sum_loss(cpu, logits.dim(0), kBinaryCrossEntropyRows, scale, out.loss, out.workspace, [&](int64_t i, double& sum) {
    const double w = weights[i];
    if (w == 0) {
      out.grad[i] = 0;
      return;
    }
    const BinaryEntry entry = binary_entry(logits[i], targets[i]);
    sum += w * entry.loss;
    out.grad[i] = static_cast<float>(scale * w * entry.grad);
  });
}

}  // namespace gradlibra::kernels
