// SPDX-License-Identifier: MIT
// Sigmoid losses on the host. The formulas of an entry are in sigmoid_entry.h and in the member's header.
#include "kernels/losses/sigmoid_loss.h"

#include <algorithm>
#include <string>

#include "kernels/losses/class_balanced.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/eqlv2.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/loss_total.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t sigmoid_loss_workspace(int64_t rows, int64_t) { return chunk_count(rows, kSigmoidLossRows); }

void check_sigmoid_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                        const LossSum& out) {
  require(logits.rank() == 2, "sigmoid_loss", "logits must be (R, C), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require_shape("sigmoid_loss", "labels", labels, {R});
  require_shape("sigmoid_loss", "weights", weights, {R});
  require_shape("sigmoid_loss", "normalizer", out.normalizer, {1});
  require_shape("sigmoid_loss", "loss", out.loss, {1});
  require_shape("sigmoid_loss", "grad", out.grad, {R, C});
  require(out.workspace.size() >= sigmoid_loss_workspace(R, C), "sigmoid_loss", "workspace is too small");
}

template <class Loss>
void sigmoid_loss(Cpu& cpu, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, const LossSum& out) {
  check_sigmoid_loss(logits, labels, weights, out);
  const int64_t R = logits.dim(0), C = logits.dim(1);
  const auto psi = member.template weight<float>();
  const double scale = out.weight / out.normalizer[0];

  sum_loss(cpu, R, kSigmoidLossRows, scale, out.loss, out.workspace, [&](int64_t i, double& sum) {
    const float* z = logits.data() + i * C;
    float* grad = out.grad.data() + i * C;
    if (weights[i] == 0 || labels[i] < 0) {
      std::fill_n(grad, C, 0.0f);
      return;
    }
    const double w = weights[i];
    const float row_scale = static_cast<float>(scale * w);
    double row_sum = 0;
    for (int64_t c = 0; c < C; ++c) {
      const Entry<float> entry = sigmoid_entry(z[c], {labels[i], static_cast<int32_t>(c)}, psi);
      row_sum += static_cast<double>(entry.loss);
      grad[c] = row_scale * entry.grad;
    }
    sum += w * row_sum;
  });
}

void sigmoid(Cpu& cpu, View<const float> logits, View<float> scores) {
  require_shape("sigmoid", "scores", scores, logits.shape());
  parallel_for(cpu, logits.size(), 4096, [&](int64_t i) {
    const float z = logits[i], e = std::exp(-std::abs(z));
    scores[i] = (z >= 0 ? 1 : e) / (1 + e);
  });
}

template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>, const CrossEntropy&,
                           const LossSum&);
template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>, const Focal&,
                           const LossSum&);
template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>, const GradLibra&,
                           const LossSum&);
template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>,
                           const ClassBalanced<CrossEntropy>&, const LossSum&);
template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>, const ClassBalanced<Focal>&,
                           const LossSum&);
template void sigmoid_loss(Cpu&, View<const float>, View<const int32_t>, View<const float>, const EqlV2&,
                           const LossSum&);

}  // namespace gradlibra::kernels
