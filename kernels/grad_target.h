// SPDX-License-Identifier: MIT
// Where a backward kernel puts one gradient.
#pragma once

#include "kernels/view.h"

namespace gradlibra {

// The memory, and whether to overwrite what it holds or to add. Without memory the gradient is not wanted, where the
// kernel says that it may be left out.
template <class T = float>
struct GradTarget {
  View<T> grad;
  Accumulate mode = Accumulate::overwrite;

  [[nodiscard]] constexpr bool wanted() const { return grad.data() != nullptr; }
  [[nodiscard]] constexpr bool adds() const { return mode == Accumulate::add; }
};

}  // namespace gradlibra
