// SPDX-License-Identifier: MIT
// Focal loss (arXiv:1708.02002): psi = a * g^gamma, differentiated (kernels/losses/sigmoid_entry.h).
#pragma once

#include <string>

#include "kernels/losses/sigmoid_entry.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct Focal {
  double gamma = 2;   // >= 0; 0 reproduces cross-entropy exactly
  double alpha = -1;  // in (0, 1): a = alpha for positives, 1 - alpha for negatives; negative: a = 1

  template <class T>
  struct Weight {
    T gamma;
    T balance[2];  // a of negative and of positive entries
    GRADLIBRA_HOST_DEVICE T psi(T g, EntryPlace place) const {
      // A power of g itself: exp(-gamma * softplus(-t)) would magnify the rounding of its argument as |t| grows.
      // Chosen, not indexed: on a device a parameter that is indexed by a variable is first copied to memory.
      return (place.positive() ? balance[1] : balance[0]) * (gamma == 2 ? g * g : std::pow(g, gamma));
    }
    GRADLIBRA_HOST_DEVICE T slope(T, T psi, EntryPlace) const { return gamma * psi; }
  };
  // std::invalid_argument for options outside their range.
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    require(gamma >= 0, "focal", "gamma must not be negative, is " + std::to_string(gamma));
    require(alpha <= 1, "focal", "alpha must be 0 to 1, or negative for none, is " + std::to_string(alpha));
    const bool balanced = alpha >= 0;
    return {static_cast<T>(gamma),
            {balanced ? static_cast<T>(1 - alpha) : T(1), balanced ? static_cast<T>(alpha) : T(1)}};
  }
};

}  // namespace gradlibra::kernels
