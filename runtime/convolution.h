// SPDX-License-Identifier: MIT
// Who computes convolutions: oneDNN, the plain kernels, or (on a GPU) a vendor library, behind one interface.
#pragma once

#include <memory>

#include "kernels/batch_norm.h"  // Activation
#include "kernels/conv2d.h"
#include "kernels/view.h"

namespace gradlibra {

class Context;

// Shapes as in kernels/conv2d.h: x (N, H, W, C), weight (K, R, S, C), bias (K) or empty, y (N, P, Q, K). A matrix product of rows
// (R, C) with a weight (K, C) is a 1x1 convolution of a map (1, R, 1, C).
class Convolution {
 public:
  virtual ~Convolution() = default;
  // y = activation(x * weight + bias)
  virtual void forward(View<const float> x, View<const float> weight, View<const float> bias,
                       const kernels::ConvShape& shape, kernels::Activation activation, View<float> y) = 0;
  virtual void backward_data(View<const float> grad_y, View<const float> weight, const kernels::ConvShape& shape,
                             View<float> grad_x, Accumulate mode) = 0;
  // An empty grad_bias skips it.
  virtual void backward_weight(View<const float> x, View<const float> grad_y, const kernels::ConvShape& shape,
                               View<float> grad_weight, View<float> grad_bias, Accumulate mode) = 0;
  // Weights have changed (an optimiser step, a load): whatever was derived from them is stale.
  virtual void weights_changed() {}
};

// kernels/conv2d on the context's executor: the oracle, and the fallback.
[[nodiscard]] std::unique_ptr<Convolution> make_plain_convolution(Context& context);
// oneDNN on the host; null in a build without it.
[[nodiscard]] std::unique_ptr<Convolution> make_onednn_convolution(Context& context);

}  // namespace gradlibra
