// SPDX-License-Identifier: MIT
// Binary cross-entropy on the host.
#include "kernels/losses/binary_cross_entropy.h"

#include "kernels/losses/loss_total.h"

namespace gradlibra::kernels {

int64_t binary_cross_entropy_workspace(int64_t rows) { return chunk_count(rows, kBinaryCrossEntropyRows); }

void check_binary_cross_entropy(View<const float> logits, View<const float> targets, View<const float> weights,
                                View<const double> normalizer, View<double> loss, View<float> grad_logits,
                                View<double> workspace) {
  const char* const op = "binary_cross_entropy";
  require(logits.rank() == 1, op, "logits must be (R), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0);
  require_shape(op, "targets", targets, {R});
  require_shape(op, "weights", weights, {R});
  require_shape(op, "normalizer", normalizer, {1});
  require_shape(op, "loss", loss, {1});
  require_shape(op, "grad_logits", grad_logits, {R});
  require(workspace.size() >= binary_cross_entropy_workspace(R), op, "workspace is too small");
}

void binary_cross_entropy(Cpu& cpu, View<const float> logits, View<const float> targets, View<const float> weights,
                          double loss_weight, View<const double> normalizer, View<double> loss, View<float> grad_logits,
                          View<double> workspace) {
  check_binary_cross_entropy(logits, targets, weights, normalizer, loss, grad_logits, workspace);
  const double scale = loss_weight / normalizer[0];
  sum_loss(cpu, logits.dim(0), kBinaryCrossEntropyRows, scale, loss, workspace, [&](int64_t i, double& sum) {
    const double w = weights[i];
    if (w == 0) {
      grad_logits[i] = 0;
      return;
    }
    const BinaryEntry entry = binary_entry(logits[i], targets[i]);
    sum += w * entry.loss;
    grad_logits[i] = static_cast<float>(scale * w * entry.grad);
  });
}

}  // namespace gradlibra::kernels
