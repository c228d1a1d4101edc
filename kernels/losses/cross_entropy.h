// SPDX-License-Identifier: MIT
// Sigmoid cross-entropy: psi = 1 (kernels/losses/sigmoid_entry.h).
#pragma once

#include "kernels/losses/sigmoid_entry.h"

namespace gradlibra::kernels {

struct CrossEntropy {
  template <class T>
  struct Weight {
    GRADLIBRA_HOST_DEVICE T psi(T, EntryPlace) const { return 1; }
    GRADLIBRA_HOST_DEVICE T slope(T, T, EntryPlace) const { return 0; }
  };
  template <class T>
  [[nodiscard]] Weight<T> weight() const {
    return {};
  }
};

}  // namespace gradlibra::kernels
