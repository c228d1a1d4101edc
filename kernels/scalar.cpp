// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

#include <cmath>

namespace gradlibra::kernels {

void scaled_maximum(Cpu&, View<const double> x, double factor, double minimum, View<double> y, double plus) {
  require(x.size() == y.size(), "scaled_maximum", "x and y are of one size");
  for (int64_t i = 0; i < x.size(); ++i) {
    const double scaled = factor * x[i];
    y[i] = (scaled > minimum ? scaled : minimum) + plus;
  }
}

void add_if_finite(Cpu&, View<const double> x, View<const float> ok, View<double> y) {
  require(x.size() == y.size(), "add_if_finite", "x and y are of one size");
  require_shape("add_if_finite", "ok", ok, {1});
  if (!std::isfinite(ok[0])) return;
  for (int64_t i = 0; i < x.size(); ++i) y[i] += x[i];
}

void gather(Cpu&, View<const double> x, View<const int32_t> index, View<double> y) {
  require(index.size() == y.size(), "gather", "index and y are of one size");
  for (int64_t i = 0; i < y.size(); ++i) y[i] = x[index[i]];
}

}  // namespace gradlibra::kernels
