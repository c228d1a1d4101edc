// SPDX-License-Identifier: MIT
// Seesaw loss (arXiv:2008.10032) with one objectness logit: a softmax over the classes whose negatives count less for
// rarer classes (mitigation) and more where they are mistaken for the right one (compensation). K = C + 1 channels, the
// class logits z and the objectness logit o. With N_c rows of class c so far, this batch included, of a row of class i:
//   s = softmax(z),   M_j = min(1, N_j / N_i)^p, counts at least 1,   C_j = max(1, s_j / max(s_i, eps))^q
//   S_j = M_j C_j, S_i = 1, a constant;   l = -log(e^z_i / sum_j S_j e^z_j)      rows of a class only
//   l_o = cross-entropy of sigmoid(o), target 1 on rows of a class, 0 on background
//   score_c = s_c sigmoid(o)
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/losses/softmax.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct SeesawOptions {
  double p = 0.8, q = 2.0, eps = 0.01;  // p = 0 or q = 0 switches a factor off
};

// Labels, weights and `out` as of sigmoid_loss (kernels/losses/sigmoid_loss.h):
//   out.loss[0] = out.weight / out.normalizer[0] * sum_i w_i (l + l_o)
// logits (R, C+1); counts (C) and gained (C): N = counts + gained. Class logits of background rows take no
// part, whatever they hold. NaN among the class logits of another row is NaN in all of their gradients. The softmax
// runs in double, o in float. out.workspace: seesaw_loss_workspace(R) doubles, the partial sums of kSeesawRows rows
// each.
inline constexpr int kSeesawRows = 64;
int64_t seesaw_loss_workspace(int64_t R);
void seesaw_loss(Cpu&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                 View<const double> counts, View<const double> gained, const SeesawOptions& options,
                 const LossSum& out);
void seesaw_loss(Cuda&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                 View<const double> counts, View<const double> gained, const SeesawOptions& options,
                 const LossSum& out);

// logits (R, C+1), scores (R, C).
void seesaw_scores(Cpu&, View<const float> logits, View<float> scores);
void seesaw_scores(Cuda&, View<const float> logits, View<float> scores);

// What both versions share: checks, and one row.
void check_seesaw_loss(View<const float> logits, View<const int32_t> labels, View<const float> weights,
                       View<const double> counts, View<const double> gained, const SeesawOptions& options,
                       const LossSum& out);
void check_seesaw_scores(View<const float> logits, View<float> scores);

struct SeesawRow {
  const double *counts, *gained;
  int C;
  double p, q, log_eps;

  GRADLIBRA_HOST_DEVICE double log_count(int c) const {
    const double n = counts[c] + gained[c];
    return n > 1 ? std::log(n) : 0;
  }

  // w (l + l_o); the gradient times `scale` goes to grad. Label 0 .. C.
  GRADLIBRA_HOST_DEVICE double operator()(const float* z, int label, double w, double scale, float* grad) const {
    const Entry<float> object = sigmoid_entry(z[C], {label < C ? 1 : 0, 1}, CrossEntropy::Weight<float>{});
    grad[C] = static_cast<float>(scale) * object.grad;
    double loss = static_cast<double>(object.loss);
    if (label >= C) {
      for (int j = 0; j < C; ++j) grad[j] = 0;
      return w * loss;
    }
    const Softmax plain = softmax_of(C, [&](int j) { return double{z[j]}; });
    const double log_total = plain.max + std::log1p(plain.others), own_count = log_count(label);
    const double own = double{z[label]} - log_total > log_eps ? double{z[label]} - log_total : log_eps;
    // z_j + log S_j
    const auto raised = [&](int j) {
      if (j == label) return double{z[j]};
      const double rarer = log_count(j) - own_count, mistaken = double{z[j]} - log_total - own;
      return double{z[j]} + p * (rarer < 0 ? rarer : 0) + q * (mistaken > 0 ? mistaken : 0);
    };
    const Softmax seesaw = softmax_of(C, raised);
    for (int j = 0; j < C; ++j) grad[j] = static_cast<float>(scale * seesaw.grad(raised(j), j, label));
    return w * (loss + seesaw.loss(double{z[label]}));
  }
};

GRADLIBRA_HOST_DEVICE inline void seesaw_row_scores(const float* z, int C, float* scores) {
  const Softmax classes = softmax_of(C, [&](int j) { return double{z[j]}; });
  const double object = 1 / (1 + std::exp(-double{z[C]}));
  for (int c = 0; c < C; ++c) scores[c] = static_cast<float>(classes.probability(double{z[c]}) * object);
}

}  // namespace gradlibra::kernels
