// SPDX-License-Identifier: MIT
// What the passes of a norm take. Feature maps (x, y and their gradients) are stored as T, everything else as float;
// arithmetic is float and rounds to T once, as it is stored. Shapes: kernels/norms/batch_norm.h, group_norm.h.
#pragma once

#include "kernels/activation.h"
#include "kernels/grad_target.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// running = (1 - momentum) * running + momentum * batch. Both or neither: without data they are left out.
struct RunningStatistics {
  float momentum = 0;
  View<float> mean{}, var{};
};

// First pass: mean and rstd of x, and what the batch does to the running statistics.
template <MapType T>
struct NormStatisticsPass {
  View<const T> x;
  float eps;
  View<float> mean, rstd;
  RunningStatistics running{};
  View<float> workspace;
};

// Second pass: y from x and its statistics. y may be x.
template <MapType T>
struct NormForwardPass {
  View<const T> x;
  View<const float> mean, rstd, weight, bias;
  Activation activation = Activation::none;
  View<T> y;

  [[nodiscard]] bool relu() const { return activation == Activation::relu; }
};

// Back: the gradients of x, weight and bias, each left out if it has no memory. y is read with relu only and may be
// empty without; x is needed for gradients of x and weight, workspace for any. grad_x may be grad_y.
template <MapType T>
struct NormBackwardPass {
  View<const T> x, y{}, grad_y;
  View<const float> mean, rstd, weight;
  Activation activation = Activation::none;
  GradTarget<T> grad_x{};
  GradTarget<> grad_weight{}, grad_bias{};
  View<float> workspace{};

  [[nodiscard]] bool relu() const { return activation == Activation::relu; }
  [[nodiscard]] bool wants_params() const { return grad_weight.wanted() || grad_bias.wanted(); }
  [[nodiscard]] bool needs_sums() const { return wants_params() || grad_x.wanted(); }
};

}  // namespace gradlibra::kernels
