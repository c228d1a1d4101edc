// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

#include <cmath>

namespace gradlibra::kernels {

void scaled_maximum(Cpu&, View<const double> x, double factor, double minimum, View<double> y, double plus) {
  check_scaled_maximum(x, y);
  for (int64_t i = 0; i < x.size(); ++i) {
    const double scaled = factor * x[i];
    y[i] = (scaled > minimum ? scaled : minimum) + plus;
  }
}

void add_if_finite(Cpu&, View<const double> x, View<const float> ok, View<double> y) {
  check_add_if_finite(x, ok, y);
  if (!std::isfinite(ok[0])) return;
  for (int64_t i = 0; i < x.size(); ++i) y[i] += x[i];
}

void gather(Cpu&, View<const double> x, View<const int32_t> index, View<double> y) {
  check_gather(index, y);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = x[index[i]];
}

}  // namespace gradlibra::kernels
