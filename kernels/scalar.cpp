// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

namespace gradlibra::kernels {

void scaled_maximum(Cpu&, View<const double> x, double factor, double minimum, View<double> y, double plus) {
  require(x.size() == 1 && y.size() == 1, "scaled_maximum", "x and y hold one element each");
  const double scaled = factor * x[0];
  y[0] = (scaled > minimum ? scaled : minimum) + plus;
}

}  // namespace gradlibra::kernels
