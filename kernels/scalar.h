// SPDX-License-Identifier: MIT
// Arithmetic on single values that must stay on the device: loss normalisers.
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// y[0] = max(factor * x[0], minimum) + plus. Views of one element (x may be a part of a larger array).
void scaled_maximum(Cpu&, View<const double> x, double factor, double minimum, View<double> y, double plus = 0);
void scaled_maximum(Cuda&, View<const double> x, double factor, double minimum, View<double> y, double plus = 0);

}  // namespace gradlibra::kernels
