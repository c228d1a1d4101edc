// SPDX-License-Identifier: MIT
// Fused SGD on the device: one pass over parameter, gradient and velocity. A thread owns four neighbouring elements.
#include "kernels/launch.h"
#include "kernels/sgd.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

__global__ void sgd_step_kernel(float* __restrict__ param, const float* __restrict__ grad, float* __restrict__ velocity,
                                const float* __restrict__ lr, const float* __restrict__ grad_scale, const Sgd options,
                                int64_t size, bool vectors) {
  const float scale = grad_scale[0], rate = lr[0] * options.lr_factor;
  if (!isfinite(scale)) return;
  for_each_pack(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> p = load<V>(param + i), v = load<V>(velocity + i);
    const Pack<V> g = load<V>(grad + i);
    for (int k = 0; k < V; ++k) {
      const float d = scale * g[k] + options.weight_decay * p[k];
      v[k] = options.momentum * v[k] + d;
      p[k] -= rate * v[k];
    }
    store<V>(velocity + i, v);
    store<V>(param + i, p);
  });
}

// One thread: it keeps the scalar on the device, where sgd_step reads it.
__global__ void clip_factor_kernel(const double* sum_squares, const double* losses, int64_t loss_count, float max_norm,
                                   float* grad_scale) {
  const double total = sum_squares[0];
  bool finite = isfinite(total);
  for (int64_t i = 0; i < loss_count; ++i) finite = finite && isfinite(losses[i]);
  if (!finite)
    grad_scale[0] = NAN;
  else if (max_norm <= 0)
    grad_scale[0] = 1;
  else
    grad_scale[0] = static_cast<float>(fmin(1.0, static_cast<double>(max_norm) / (sqrt(total) + 1e-6)));
}

}  // namespace

void sgd_step(Cuda& cuda, View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
              View<const float> grad_scale, const Sgd& options) {
  check_sgd_step(param, grad, velocity, lr, grad_scale);
  if (param.size() == 0) return;
  launch(sgd_step_kernel, pack_blocks(param.size()), kBlock, 0, cuda.stream(), param.data(), grad.data(),
         velocity.data(), lr.data(), grad_scale.data(), options, param.size(),
         aligned(param.data(), grad.data(), velocity.data()));
}

void clip_factor(Cuda& cuda, View<const double> sum_squares, View<const double> losses, float max_norm,
                 View<float> grad_scale) {
  require(sum_squares.size() == 1 && grad_scale.size() == 1, "clip_factor",
          "sum_squares and grad_scale have one element");
  launch(clip_factor_kernel, 1, 1, 0, cuda.stream(), sum_squares.data(), losses.data(),
         losses.data() != nullptr ? losses.size() : 0, max_norm, grad_scale.data());
}

}  // namespace gradlibra::kernels
