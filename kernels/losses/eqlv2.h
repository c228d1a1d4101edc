// SPDX-License-Identifier: MIT
// Equalization loss v2 (arXiv:2012.08548): cross-entropy whose entries are weighed by how much of a class's gradient
// has come from positive entries so far. Over the training
//   pos_c += sum_i w_i q_c y (1-p),   neg_c += sum_i w_i r_c (1-y) p,   rho_c = pos_c / (neg_c + 1e-10), 100 at first
//   r_c = f(rho_c) of negatives,   q_c = 1 + alpha (1 - f(rho_c)) of positives,   f(x) = 1 / (1 + e^(-gamma (x - mu)))
// The weights are constants for the gradient. In a step: eqlv2_weights, sigmoid_loss with EqlV2, eqlv2_gradients; and
// once the update was made, eqlv2_accumulate.
//
// K channels: the C classes, or one more that says whether a row is background: target 1 on background rows, weights 1,
// never accumulated.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/losses/sigmoid_entry.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Of the sigmoid family: psi is the weight of the entry's side and channel.
struct EqlV2 {
  const float* weights = nullptr;  // (2, K): of negative entries, of positive ones; memory of the device that evaluates
  int channels = 0;                // K

  template <class T>
  struct Weight {
    const float* weights;
    int channels;
    GRADLIBRA_HOST_DEVICE T psi(T, EntryPlace place) const {
      return static_cast<T>(weights[(place.positive() ? channels : 0) + place.channel]);
    }
    GRADLIBRA_HOST_DEVICE T slope(T, T, EntryPlace) const { return 0; }
  };
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    return {weights, channels};
  }
};

struct EqlV2Options {
  double gamma = 12, mu = 0.8, alpha = 4;
};
inline constexpr double kEqlV2FirstRatio = 100;

// ratios (C) to weights (2, K), K = C or C + 1.
void eqlv2_weights(Cpu&, View<const double> ratios, const EqlV2Options& options, View<float> weights);
void eqlv2_weights(Cuda&, View<const double> ratios, const EqlV2Options& options, View<float> weights);

// gradients (2, C): what this batch adds to pos and neg. Rows of weight 0 or label -1 add nothing, whatever their
// logits hold; a NaN in another row shows. logits (R, K), labels (R), row_weights (R), weights (2, K). R may be 0. Sums
// of doubles in a fixed order. workspace: eqlv2_gradients_workspace(R, C) doubles.
int64_t eqlv2_gradients_workspace(int64_t R, int64_t C);
void eqlv2_gradients(Cpu&, View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                     View<const float> weights, View<double> gradients, View<double> workspace);
void eqlv2_gradients(Cuda&, View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                     View<const float> weights, View<double> gradients, View<double> workspace);

// sums (2, C) += gained (2, C), and the new ratios (C); nothing if ok[0] is not finite.
void eqlv2_accumulate(Cpu&, View<const double> gained, View<const float> ok, View<double> sums, View<double> ratios);
void eqlv2_accumulate(Cuda&, View<const double> gained, View<const float> ok, View<double> sums, View<double> ratios);

// Of the layout with a background channel: scores[i,c] = sigmoid(z_c) (1 - sigmoid(z_C)). logits (R, C+1), scores (R,
// C).
void eqlv2_scores(Cpu&, View<const float> logits, View<float> scores);
void eqlv2_scores(Cuda&, View<const float> logits, View<float> scores);

// What both versions share: rows of a partial sum, and checks.
inline int64_t eqlv2_rows(int64_t R) { return R <= 256 * 64 ? 64 : (R + 255) / 256; }
void check_eqlv2_weights(View<const double> ratios, View<float> weights);
void check_eqlv2_accumulate(View<const double> gained, View<const float> ok, View<double> sums, View<double> ratios);
void check_eqlv2_scores(View<const float> logits, View<float> scores);
void check_eqlv2_gradients(View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                           View<const float> weights, View<double> gradients, View<double> workspace);
// {r, q} of a class.
struct EqlV2Weights {
  double negative, positive;
};
GRADLIBRA_HOST_DEVICE inline EqlV2Weights eqlv2_class_weights(double ratio, const EqlV2Options& o) {
  const double x = o.gamma * (ratio - o.mu), e = std::exp(-std::abs(x)), larger = 1 / (1 + e), smaller = e * larger;
  return {x >= 0 ? larger : smaller, 1 + o.alpha * (x >= 0 ? smaller : larger)};
}
// |p - y|
GRADLIBRA_HOST_DEVICE inline float eqlv2_gradient_norm(float logit, bool positive) {
  const float t = positive ? -logit : logit, e = std::exp(-std::abs(t));
  return (t >= 0 ? 1 : e) / (1 + e);
}

}  // namespace gradlibra::kernels
