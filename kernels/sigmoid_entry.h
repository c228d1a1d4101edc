// SPDX-License-Identifier: MIT
// One entry of the sigmoid losses in any precision: the formulas that the host and the CUDA version of sigmoid_loss share.
#pragma once

#include <cfloat>
#include <cmath>
#include <string>
#include <type_traits>

#include "kernels/host_device.h"
#include "kernels/sigmoid_loss.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// SigmoidLoss in the precision of the evaluation. Pairs are indexed by side: [0] negative entries, [1] positive ones.
// 1 - alpha is formed in double, once, for every precision.
template <class T>
struct EntryOptions {
  LossKind kind;
  bool full;  // differentiate the weight too
  T gamma;
  T balance[2];                    // focal
  bool off[2];                     // grad_libra: that side is plain cross-entropy
  T alpha[2], one_minus_alpha[2];  // grad_libra
};

// Throws std::invalid_argument for options outside their range.
template <class T>
EntryOptions<T> entry_options(const SigmoidLoss& loss) {
  const auto in_range = [](double alpha) { return alpha == kWeightOff || (alpha >= 0 && alpha <= 1); };
  require(loss.gamma >= 0, "sigmoid_loss", "gamma must not be negative, is " + std::to_string(loss.gamma));
  require(loss.alpha < 1 && loss.alpha != 0, "sigmoid_loss",
          "alpha must be in (0, 1), or negative for none, is " + std::to_string(loss.alpha));
  require(in_range(loss.alpha_pos) && in_range(loss.alpha_neg), "sigmoid_loss",
          "alpha_pos and alpha_neg must be in [0, 1] or off, are " + std::to_string(loss.alpha_pos) + " and " +
              std::to_string(loss.alpha_neg));
  const bool balanced = loss.alpha > 0;
  return {.kind = loss.kind,
          .full = loss.weight_grad == WeightGrad::full,
          .gamma = static_cast<T>(loss.gamma),
          .balance = {balanced ? static_cast<T>(1 - loss.alpha) : T(1), balanced ? static_cast<T>(loss.alpha) : T(1)},
          .off = {loss.alpha_neg == kWeightOff, loss.alpha_pos == kWeightOff},
          .alpha = {static_cast<T>(loss.alpha_neg), static_cast<T>(loss.alpha_pos)},
          .one_minus_alpha = {static_cast<T>(1 - loss.alpha_neg), static_cast<T>(1 - loss.alpha_pos)}};
}

// q(g) = g - sin g on [0, 1] by its Taylor series, which loses no digits where the difference would: at g = 3e-4 nothing is left
// of `g - sinf(g)`. Truncation error below 1e-9 relative for float, 1e-17 for double.
template <class T>
GRADLIBRA_HOST_DEVICE inline T g_minus_sin(T g) {
  const T x = g * g;
  T tail = 1;
  if constexpr (std::is_same_v<T, double>)
    tail = 1 - x * (T(1) / 156) * (1 - x * (T(1) / 210) * (1 - x * (T(1) / 272)));
  tail = 1 - x * (T(1) / 72) * (1 - x * (T(1) / 110) * tail);
  return g * x * (T(1) / 6) * (1 - x * (T(1) / 20) * (1 - x * (T(1) / 42) * tail));
}

// Loss of one entry and its derivative by the logit.
template <class T>
struct Entry {
  T loss, grad;
};

template <class T>
GRADLIBRA_HOST_DEVICE inline Entry<T> sigmoid_entry(T logit, bool positive, const EntryOptions<T>& o) {
  constexpr T kMax = static_cast<T>(std::is_same_v<T, float> ? double{FLT_MAX} : DBL_MAX);
  const T t = positive ? -logit : logit;
  const T e = std::exp(-std::abs(t));
  const T larger = 1 / (1 + e), smaller = e * larger;
  const T g = t >= 0 ? larger : smaller;            // sigmoid(t)
  const T one_minus_g = t >= 0 ? smaller : larger;  // sigmoid(-t), not a subtraction
  // Ternaries, not fmax and fmin, which would drop a NaN.
  const T ce = (t > 0 ? t : 0) + std::log1p(e);           // softplus(t)
  const T decay = one_minus_g * (ce > kMax ? kMax : ce);  // -> 0 as t -> inf, where the product would be 0 * inf

  T psi = 1;    // weight of the cross-entropy
  T slope = 0;  // g * psi'(g)
  if (o.kind == LossKind::focal) {
    // A power of g itself: exp(-gamma * softplus(-t)) would magnify the rounding of its argument as |t| grows.
    psi = o.balance[positive] * (o.gamma == 2 ? g * g : std::pow(g, o.gamma));
    slope = o.gamma * psi;
  } else if (o.kind == LossKind::grad_libra && !o.off[positive]) {
    const T alpha = o.alpha[positive], one_minus_alpha = o.one_minus_alpha[positive];
    psi = one_minus_alpha * g + alpha * g_minus_sin(g);
    if (o.full) {
      const T sin_half = g / 2 - g_minus_sin(g / 2);
      slope = g * (one_minus_alpha + 2 * alpha * sin_half * sin_half);  // 1 - alpha cos g
    }
  }
  const T grad_t = g * psi + slope * decay;
  return {psi * ce, positive ? -grad_t : grad_t};
}

}  // namespace gradlibra::kernels
