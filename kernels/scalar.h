// SPDX-License-Identifier: MIT
// Arithmetic on a few values that must stay on the device: loss normalisers, what losses accumulate.
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// y[i] = max(factor * x[i], minimum) + plus. Views of one size, a few elements (x may be a part of a larger array).
void scaled_maximum(Cpu&, View<const double> x, double factor, double minimum, View<double> y, double plus = 0);
void scaled_maximum(Cuda&, View<const double> x, double factor, double minimum, View<double> y, double plus = 0);

// y[i] += x[i] if ok[0] is finite, else y stays as it is. Views of one size, a few elements; ok (1).
void add_if_finite(Cpu&, View<const double> x, View<const float> ok, View<double> y);
void add_if_finite(Cuda&, View<const double> x, View<const float> ok, View<double> y);

// y[i] = x[index[i]], index in [0, x.size()). index and y of one size, a few elements.
void gather(Cpu&, View<const double> x, View<const int32_t> index, View<double> y);
void gather(Cuda&, View<const double> x, View<const int32_t> index, View<double> y);

// What both versions check first. Errors name the kernel.
inline void check_scaled_maximum(View<const double> x, View<double> y) {
  require(x.size() == y.size(), "scaled_maximum", "x and y are of one size");
}
inline void check_add_if_finite(View<const double> x, View<const float> ok, View<double> y) {
  require(x.size() == y.size(), "add_if_finite", "x and y are of one size");
  require_shape("add_if_finite", "ok", ok, {1});
}
inline void check_gather(View<const int32_t> index, View<double> y) {
  require(index.size() == y.size(), "gather", "index and y are of one size");
}

}  // namespace gradlibra::kernels
