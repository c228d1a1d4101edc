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
  // cancellation for small g; 1 - alpha is formed in double, once, for every precision. A side that is off has base 1
  // and the other two 0, else base is 0.
  template <class T>
  struct Weight {
    bool full;
    T base[2], alpha[2], one_minus_alpha[2];
    // Chosen, not indexed: on a device a parameter that is indexed by a variable is first copied to memory.
    GRADLIBRA_HOST_DEVICE static T at(const T (&pair)[2], EntryPlace place) {
      return place.positive() ? pair[1] : pair[0];
    }
    GRADLIBRA_HOST_DEVICE T psi(T g, EntryPlace place) const {
      return at(one_minus_alpha, place) * g + (at(alpha, place) * g_minus_sin(g) + at(base, place));
    }
    GRADLIBRA_HOST_DEVICE T slope(T g, T, EntryPlace place) const {
      if (!full) return 0;
      const T sin_half = g / 2 - g_minus_sin(g / 2);
      // g * (1 - alpha cos g)
      return g * (at(one_minus_alpha, place) + 2 * at(alpha, place) * sin_half * sin_half);
    }
  };
  // std::invalid_argument for options outside their range.
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    const auto allowed = [](double a) { return a == kWeightOff || (a >= 0 && a <= 1); };
    require(allowed(alpha_pos) && allowed(alpha_neg), "grad_libra",
            "alpha_pos and alpha_neg must be in [0, 1] or off, are " + std::to_string(alpha_pos) + " and " +
                std::to_string(alpha_neg));
    Weight<T> weight{};
    weight.full = weight_grad == WeightGrad::full;
    const double alphas[2] = {alpha_neg, alpha_pos};
    for (int side = 0; side < 2; ++side) {
      const bool off = alphas[side] == kWeightOff;
      weight.base[side] = off ? T(1) : T(0);
      weight.alpha[side] = off ? T(0) : static_cast<T>(alphas[side]);
      weight.one_minus_alpha[side] = off ? T(0) : static_cast<T>(1 - alphas[side]);
    }
    return weight;
  }
};

}  // namespace gradlibra::kernels
