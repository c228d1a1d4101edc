// SPDX-License-Identifier: MIT
// Sigmoid classification losses without state, value and gradient in one pass: cross-entropy, focal, Grad-Libra.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With t = -z for a positive entry and t = z for a negative one (a background row is negative for every class),
//   g = sigmoid(t) = |p - y|,   ce = log(1 + e^t),   every loss is   l = psi(g) * ce:
//     cross_entropy  psi = 1
//     focal          psi = a * g^gamma; a = 1, or alpha for positives and 1 - alpha for negatives if alpha >= 0; differentiated
//     grad_libra     psi = F(g; alpha) = g - alpha * sin(g), alpha_pos / alpha_neg by side (arXiv:2208.03779, eq. 2-5)
// dl/dt = g * psi if psi is held constant (detach), g * (psi + psi'(g) * (1-g) * ce) if it is differentiated (full).
enum class LossKind { cross_entropy, focal, grad_libra };
enum class WeightGrad { detach, full };

struct SigmoidLoss {
  LossKind kind = LossKind::grad_libra;
  double gamma = 2;                             // focal, >= 0; 0 reproduces cross-entropy exactly
  double alpha = -1;                            // focal, in (0, 1); negative: no balance factor
  double alpha_pos = 0.8, alpha_neg = 0.8;      // grad_libra, in [0, 1]; kWeightOff: psi = 1 on that side
  WeightGrad weight_grad = WeightGrad::detach;  // grad_libra
};
inline constexpr double kWeightOff = -1;

// Row i has label in 0..C-1, C for background, -1 for ignored, and a weight w. Rows with w == 0 or label -1 contribute exactly 0
// whatever their logits hold (by selection, not multiplication). With s = loss_weight / normalizer[0]:
//   loss[0]          = s * sum_i w_i sum_c l          double, fixed order
//   grad_logits[i,c] = s * w_i * dl/dz                written for every entry, 0 for ignored rows
// normalizer (1) double, read on the device, > 0. NaN logits give NaN for their entry and the total; an infinite logit on the
// wrong side gives an infinite loss and a finite gradient, on the right side 0 and 0. No clamps: |z| up to 1e4 and beyond is exact.
// F by the series (1-a)g + a*q(g), q = g - sin g: no cancellation for small g (kernels/sigmoid_entry.h). Entries are evaluated in
// float32, sums run in double. logits (R, C), labels (R), weights (R), loss (1). R may be 0: loss 0. Options outside their range
// throw. workspace: sigmoid_loss_workspace(R, C) doubles, the partial sums of kSigmoidLossRows rows each.
inline constexpr int kSigmoidLossRows = 64;
int64_t sigmoid_loss_workspace(int64_t rows, int64_t classes);
void sigmoid_loss(Cpu&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const SigmoidLoss& options, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace);
void sigmoid_loss(Cuda&, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const SigmoidLoss& options, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace);

// scores = sigmoid(logits), any shape.
void sigmoid(Cpu&, View<const float> logits, View<float> scores);
void sigmoid(Cuda&, View<const float> logits, View<float> scores);

// The loss and d loss / dz of a single entry in double precision: the definition that tests and inspection use.
struct LossEntry {
  double loss, grad;
};
LossEntry sigmoid_loss_entry(double logit, bool positive, const SigmoidLoss& options);

}  // namespace gradlibra::kernels
