// SPDX-License-Identifier: MIT
// What the host's and the device's norms check first.
#pragma once

#include <string>

#include "kernels/norms/channel_norm.h"

namespace gradlibra::kernels {

inline void require_size(const char* op, const char* name, int64_t size, int64_t expected) {
  require(size == expected, op,
          std::string(name) + " has " + std::to_string(size) + " elements, expected " + std::to_string(expected));
}

inline void require_workspace(const char* op, const NormShape& s, View<float> workspace) {
  require(s.R * s.N == 0 || (workspace.data() != nullptr && workspace.size() >= s.workspace()), op,
          "workspace has " + workspace.shape().to_string() + " floats, needs " + std::to_string(s.workspace()));
}

template <MapType T>
void check_norm_statistics(const char* op, const NormShape& s, const NormStatisticsPass<T>& pass) {
  require_size(op, "x", pass.x.size(), s.N * s.R * s.C);
  require_size(op, "mean", pass.mean.size(), s.N * s.G);
  require_size(op, "rstd", pass.rstd.size(), s.N * s.G);
  if (pass.running.mean.data() != nullptr || pass.running.var.data() != nullptr) {
    require_size(op, "running_mean", pass.running.mean.size(), s.G);
    require_size(op, "running_var", pass.running.var.size(), s.G);
  }
  require_workspace(op, s, pass.workspace);
}

template <MapType T>
void check_norm_forward(const char* op, const NormShape& s, const NormForwardPass<T>& pass) {
  require_size(op, "x", pass.x.size(), s.N * s.R * s.C);
  require_shape(op, "y", pass.y, pass.x.shape());
  require_size(op, "mean", pass.mean.size(), s.N * s.G);
  require_size(op, "rstd", pass.rstd.size(), s.N * s.G);
  require_shape(op, "weight", pass.weight, {s.C});
  require_shape(op, "bias", pass.bias, {s.C});
}

template <MapType T>
void check_norm_input_gradient(const char* op, const NormShape& s, const NormBackwardPass<T>& pass,
                               View<const float> average_g, View<const float> average_g_x_hat) {
  require_size(op, "grad_y", pass.grad_y.size(), s.N * s.R * s.C);
  require_size(op, "mean", pass.mean.size(), s.N * s.G);
  require_size(op, "rstd", pass.rstd.size(), s.N * s.G);
  require_size(op, "average_g", average_g.size(), s.N * s.G);
  require_size(op, "average_g_x_hat", average_g_x_hat.size(), s.N * s.G);
  require_shape(op, "weight", pass.weight, {s.C});
  require_shape(op, "x", pass.x, pass.grad_y.shape());
  require_shape(op, "grad_x", pass.grad_x.grad, pass.grad_y.shape());
  if (pass.relu()) require_shape(op, "y", pass.y, pass.grad_y.shape());
}

template <MapType T>
void check_norm_backward(const char* op, const NormShape& s, const NormBackwardPass<T>& pass) {
  require_size(op, "grad_y", pass.grad_y.size(), s.N * s.R * s.C);
  require_size(op, "mean", pass.mean.size(), s.N * s.G);
  require_size(op, "rstd", pass.rstd.size(), s.N * s.G);
  require_shape(op, "weight", pass.weight, {s.C});
  if (pass.relu()) require_shape(op, "y", pass.y, pass.grad_y.shape());
  if (pass.grad_x.wanted()) require_shape(op, "grad_x", pass.grad_x.grad, pass.grad_y.shape());
  if (pass.grad_weight.wanted()) require_shape(op, "grad_weight", pass.grad_weight.grad, {s.C});
  if (pass.grad_bias.wanted()) require_shape(op, "grad_bias", pass.grad_bias.grad, {s.C});
  if (pass.needs_sums()) {
    require_shape(op, "x", pass.x, pass.grad_y.shape());
    require_workspace(op, s, pass.workspace);
  }
}

}  // namespace gradlibra::kernels
