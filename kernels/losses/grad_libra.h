// SPDX-License-Identifier: MIT
// Grad-Libra (arXiv:2208.03779, eq. 2-5): cross-entropy weighted by how hard an entry is, g = |p - y| being the
// measure.
//   psi(g) = F(g; alpha) = g - alpha * sin(g),   alpha_pos / alpha_neg by side
//   gradient by t (kernels/losses/sigmoid_entry.h):
//     detach  g * F(g)                                      the weight is a constant
//     full    g * (F(g) + (1 - alpha cos g) (1 - g) ce)     it is differentiated
#pragma once

#include <string>
#include <type_traits>

#include "kernels/losses/sigmoid_entry.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class WeightGrad { detach, full };
inline constexpr double kWeightOff = -1;

// q(g) = g - sin g on [0, 1] by its Taylor series, which loses no digits where the difference would: at g = 3e-4
// nothing is left of `g - sinf(g)`. Truncation error below 1e-9 relative for float, 1e-17 for double.
template <class T>
GRADLIBRA_HOST_DEVICE inline T g_minus_sin(T g) {
  const T x = g * g;
  T tail = 1;
  if constexpr (std::is_same_v<T, double>)
    tail = 1 - x * (T(1) / 156) * (1 - x * (T(1) / 210) * (1 - x * (T(1) / 272)));
  tail = 1 - x * (T(1) / 72) * (1 - x * (T(1) / 110) * tail);
  return g * x * (T(1) / 6) * (1 - x * (T(1) / 20) * (1 - x * (T(1) / 42) * tail));
}

struct GradLibra {
  double alpha_pos = 0.8, alpha_neg = 0.8;  // in [0, 1]; kWeightOff: psi = 1 on that side
  WeightGrad weight_grad = WeightGrad::detach;

  // Pairs are indexed by side: [0] negative entries, [1] positive ones. F = (1-alpha) g + alpha q(g) has no
  // cancellation for small g; 1 - alpha is formed in double, once, for every precision.
  template <class T>
  struct Weight {
    bool full;
    bool off[2];
    T alpha[2], one_minus_alpha[2];
    GRADLIBRA_HOST_DEVICE T psi(T g, EntryPlace place) const {
      const bool side = place.positive();
      return off[side] ? T(1) : one_minus_alpha[side] * g + alpha[side] * g_minus_sin(g);
    }
    GRADLIBRA_HOST_DEVICE T slope(T g, T, EntryPlace place) const {
      const bool side = place.positive();
      if (!full || off[side]) return 0;
      const T sin_half = g / 2 - g_minus_sin(g / 2);
      return g * (one_minus_alpha[side] + 2 * alpha[side] * sin_half * sin_half);  // g * (1 - alpha cos g)
    }
  };
  // std::invalid_argument for options outside their range.
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    const auto allowed = [](double a) { return a == kWeightOff || (a >= 0 && a <= 1); };
    require(allowed(alpha_pos) && allowed(alpha_neg), "grad_libra",
            "alpha_pos and alpha_neg must be in [0, 1] or off, are " + std::to_string(alpha_pos) + " and " +
                std::to_string(alpha_neg));
    return {weight_grad == WeightGrad::full,
            {alpha_neg == kWeightOff, alpha_pos == kWeightOff},
            {static_cast<T>(alpha_neg), static_cast<T>(alpha_pos)},
            {static_cast<T>(1 - alpha_neg), static_cast<T>(1 - alpha_pos)}};
  }
};

}  // namespace gradlibra::kernels
