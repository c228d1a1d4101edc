// SPDX-License-Identifier: MIT
// One thread: the value is needed by the next kernel on the stream, not by the host.
#include "kernels/launch.h"
#include "kernels/scalar.h"

namespace gradlibra::kernels {

namespace {

__global__ void scaled_maximum_kernel(const double* x, double factor, double minimum, double plus, double* y) {
  const double scaled = factor * x[0];
  y[0] = (scaled > minimum ? scaled : minimum) + plus;
}

}  // namespace

void scaled_maximum(Cuda& cuda, View<const double> x, double factor, double minimum, View<double> y, double plus) {
  require(x.size() == 1 && y.size() == 1, "scaled_maximum", "x and y hold one element each");
  launch(scaled_maximum_kernel, dim3(1), dim3(1), 0, cuda.stream(), x.data(), factor, minimum, plus, y.data());
}

}  // namespace gradlibra::kernels
