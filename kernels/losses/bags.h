// SPDX-License-Identifier: MIT
// Balanced group softmax (arXiv:2006.10408): classes of similar frequency share a softmax, so that rare ones do not
// compete with frequent ones. Channels: [background, foreground], then for each group [others, its classes ascending].
// Group 0 tells foreground from background in every row. Group g >= 1 tells its classes from each other and from
// `others` (background and other groups), in its own rows and in some of the others (kernels/losses/bags_sample.h).
//   l = sum over groups of -log P_g[target] / A_g      P_g: softmax over the group's channels
//   score_c = P_g(c)[c] * P_0[foreground]              background: P_0[background]
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/losses/softmax.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Where the classes stand, in memory of the device. groups counts from 1; first[g] is the first channel of group g, its
// `others` (of group 0 the background), and first[groups + 1] the number of channels.
struct BagsLayout {
  View<const int32_t> group_of, channel_of;  // (C)
  View<const int32_t> first;                 // (G + 2)
  [[nodiscard]] int64_t classes() const { return group_of.size(); }
  [[nodiscard]] int64_t groups() const { return first.size() - 2; }
  [[nodiscard]] int64_t channels() const { return 2 + groups() + classes(); }
};

// Labels, weights and `out` as of sigmoid_loss (kernels/losses/sigmoid_loss.h). logits (R, channels); sample (R, G): 1
// where the row takes part in group g + 1; out.normalizer (G + 1) doubles, > 0, A_g. With
// s = 1 for group 0 and `sample` for the others,
//   out.loss[0] = out.weight * sum_g sum_i s w_i (-log P_g[i, target]) / A_g
// Logits of groups that a row takes no part in do not matter, whatever they hold. NaN in another is NaN in its group's
// gradients and in the total. Softmax and sums run in double. out.workspace: bags_loss_workspace(R) doubles, the
// partial sums of kBagsRows rows each.
inline constexpr int kBagsRows = 64;
int64_t bags_loss_workspace(int64_t R);
void bags_loss(Cpu&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
               View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out);
void bags_loss(Cuda&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
               View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out);

// logits (R, channels), scores (R, C).
void bags_scores(Cpu&, View<const float> logits, const BagsLayout& layout, View<float> scores);
void bags_scores(Cuda&, View<const float> logits, const BagsLayout& layout, View<float> scores);

// What both versions share: checks, and one row.
void check_bags_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                     View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out);
void check_bags_scores(View<const float> logits, const BagsLayout& layout, View<float> scores);

struct BagsRow {
  const int32_t *group_of, *channel_of, *first;
  int C, G;

  // sum over groups of w s (-log P) / A_g; its gradient times loss_weight goes to grad. Label 0 .. C.
  GRADLIBRA_HOST_DEVICE double operator()(const float* logits, int label, double w, const uint8_t* sample,
                                          const double* normalizers, double loss_weight, float* grad) const {
    const int own = label < C ? group_of[label] : 0;
    double loss = 0;
    for (int g = 0; g <= G; ++g) {
      const int begin = first[g], size = first[g + 1] - begin;
      if (g > 0 && sample[g - 1] == 0) {
        for (int j = 0; j < size; ++j) grad[begin + j] = 0;
        continue;
      }
      const auto z = [&](int j) { return double{logits[begin + j]}; };
      const int target = g == 0 ? (label < C ? 1 : 0) : g == own ? channel_of[label] - begin : 0;
      const Softmax softmax = softmax_of(size, z);
      loss += w / normalizers[g] * softmax.loss(z(target));
      const double scale = loss_weight * w / normalizers[g];
      for (int j = 0; j < size; ++j) grad[begin + j] = static_cast<float>(scale * softmax.grad(z(j), j, target));
    }
    return loss;
  }

  GRADLIBRA_HOST_DEVICE void scores(const float* logits, float* scores) const {
    const double foreground = 1 / (1 + std::exp(double{logits[0]} - double{logits[1]}));
    for (int g = 1; g <= G; ++g) {
      const auto z = [&](int j) { return double{logits[first[g] + j]}; };
      const Softmax softmax = softmax_of(first[g + 1] - first[g], z);
      for (int c = 0; c < C; ++c)
        if (group_of[c] == g)
          scores[c] = static_cast<float>(softmax.probability(double{logits[channel_of[c]]}) * foreground);
    }
  }
};
inline BagsRow bags_row(const BagsLayout& layout) {
  return {layout.group_of.data(), layout.channel_of.data(), layout.first.data(), static_cast<int>(layout.classes()),
          static_cast<int>(layout.groups())};
}

}  // namespace gradlibra::kernels
