// SPDX-License-Identifier: MIT
// What follows a convolution: bias, residual and ReLU in one pass over the map, where the convolution itself did not
// take them along.
#pragma once

#include "kernels/activation.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// y[r, c] = activation((x[r, c] + residual[r, c]) + bias[c]), in float and rounded once: the order in which cuDNN's
// fused engines add. x and y (..., C): leading dimensions are rows. bias (C) and residual (as x) may be empty views
// (null): then they are left out. y may be x or residual, never an overlapping other array. NaN stays NaN.
template <MapType T>
void bias_activation(Cpu&, In<T> x, In<T> bias, In<T> residual, Activation activation, View<T> y);
template <MapType T>
void bias_activation(Cuda&, In<T> x, In<T> bias, In<T> residual, Activation activation, View<T> y);

// What both versions check first.
template <MapType T>
void check_bias_activation(In<T> x, In<T> bias, In<T> residual, View<T> y) {
  require(y.rank() >= 1, "bias_activation", "y has no channels");
  require(x.size() == y.size(), "bias_activation",
          x.shape().to_string() + " and " + y.shape().to_string() + " differ in size");
  if (bias.data() != nullptr) require_shape("bias_activation", "bias", bias, {y.dim(-1)});
  if (residual.data() != nullptr)
    require(residual.size() == y.size(), "bias_activation",
            "residual has shape " + residual.shape().to_string() + " for y " + y.shape().to_string());
}

}  // namespace gradlibra::kernels
