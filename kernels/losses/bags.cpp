// SPDX-License-Identifier: MIT
// Balanced group softmax on the host. A row's formulas are in the header.
#include "kernels/losses/bags.h"

#include <algorithm>
#include <limits>

#include "kernels/losses/loss_total.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

void check_layout(const char* op, const BagsLayout& layout, View<const float> logits) {
  require(layout.first.rank() == 1 && layout.first.size() >= 3, op,
          "the layout needs at least one group beside background and foreground");
  require_shape(op, "channel_of", layout.channel_of, {layout.classes()});
  require(logits.rank() == 2 && logits.dim(1) < std::numeric_limits<int>::max(), op,
          "logits must be (R, channels), are " + logits.shape().to_string());
  require_shape(op, "logits", logits, {logits.dim(0), layout.channels()});
}

}  // namespace

int64_t bags_loss_workspace(int64_t R) { return chunk_count(R, kBagsRows); }

void check_bags_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                     View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out) {
  check_layout("bags_loss", layout, logits);
  const int64_t R = logits.dim(0);
  require_shape("bags_loss", "labels", labels, {R});
  require_shape("bags_loss", "weights", weights, {R});
  require_shape("bags_loss", "sample", sample, {R, layout.groups()});
  require_shape("bags_loss", "normalizers", out.normalizer, {layout.groups() + 1});
  require_shape("bags_loss", "loss", out.loss, {1});
  require_shape("bags_loss", "grad_logits", out.grad, logits.shape());
  require(out.workspace.size() >= bags_loss_workspace(R), "bags_loss", "workspace is too small");
}

void check_bags_scores(View<const float> logits, const BagsLayout& layout, View<float> scores) {
  check_layout("bags_scores", layout, logits);
  require_shape("bags_scores", "scores", scores, {logits.dim(0), layout.classes()});
}

void bags_loss(Cpu& cpu, View<const float> logits, View<const int32_t> labels, View<const float> weights,
               View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out) {
  check_bags_loss(logits, labels, weights, sample, layout, out);
  const int64_t R = logits.dim(0), K = logits.dim(1), G = layout.groups();
  const BagsRow row = bags_row(layout);
  sum_loss(cpu, R, kBagsRows, out.weight, out.loss, out.workspace, [&](int64_t i, double& sum) {
    float* grad = out.grad.data() + i * K;
    if (weights[i] == 0 || labels[i] < 0)
      std::fill_n(grad, K, 0.0f);
    else
      sum += row(logits.data() + i * K, labels[i], double{weights[i]}, sample.data() + i * G, out.normalizer.data(),
                 out.weight, grad);
  });
}

void bags_scores(Cpu& cpu, View<const float> logits, const BagsLayout& layout, View<float> scores) {
  check_bags_scores(logits, layout, scores);
  const int64_t K = logits.dim(1), C = layout.classes();
  const BagsRow row = bags_row(layout);
  parallel_for(cpu, logits.dim(0), 64, [&](int64_t i) { row.scores(logits.data() + i * K, scores.data() + i * C); });
}

}  // namespace gradlibra::kernels
