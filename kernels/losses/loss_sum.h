// SPDX-License-Identifier: MIT
// What every loss kernel is given beside its rows.
#pragma once

#include "kernels/view.h"

namespace gradlibra::kernels {

// The scale of the sum, and where value and gradient go.
struct LossSum {
  double weight = 1;              // factor on value and gradient
  View<const double> normalizer;  // divides both; read on the device, > 0; one element unless the kernel says otherwise
  View<double> loss;              // one element
  View<float> grad;               // by the predictions, in their shape; every element is written
  View<double> workspace;         // partial sums, as many as the kernel's function for it says
};

}  // namespace gradlibra::kernels
