// SPDX-License-Identifier: MIT
// Fused SGD on the host.
#include "kernels/sgd.h"

#include <cmath>
#include <limits>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_sgd_step(View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
                    View<const float> grad_scale) {
  require(grad.size() == param.size() && velocity.size() == param.size(), "sgd_step",
          "param has shape " + param.shape().to_string() + ", grad " + grad.shape().to_string() + ", velocity " +
              velocity.shape().to_string());
  require(lr.size() == 1 && grad_scale.size() == 1, "sgd_step", "lr and grad_scale have one element");
}

void sgd_step(Cpu& cpu, View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
              View<const float> grad_scale, const Sgd& options) {
  check_sgd_step(param, grad, velocity, lr, grad_scale);
  const float scale = grad_scale[0], rate = lr[0] * options.lr_factor;
  const float momentum = options.momentum, weight_decay = options.weight_decay;
  if (!std::isfinite(scale)) return;
  float* p = param.data();
  const float* g = grad.data();
  float* v = velocity.data();
  parallel_chunks(cpu, param.size(), 32768, [=](int64_t, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float d = scale * g[i] + weight_decay * p[i];
      v[i] = momentum * v[i] + d;
      p[i] -= rate * v[i];
    }
  });
}

void clip_factor(Cpu&, View<const double> sum_squares, View<const double> losses, float max_norm,
                 View<float> grad_scale) {
  require(sum_squares.size() == 1 && grad_scale.size() == 1, "clip_factor",
          "sum_squares and grad_scale have one element");
  const double total = sum_squares[0];
  bool finite = std::isfinite(total);
  for (int64_t i = 0; losses.data() != nullptr && i < losses.size(); ++i) finite = finite && std::isfinite(losses[i]);
  if (!finite)
    grad_scale[0] = std::numeric_limits<float>::quiet_NaN();
  else if (max_norm <= 0)
    grad_scale[0] = 1;
  else
    grad_scale[0] = static_cast<float>(std::min(1.0, static_cast<double>(max_norm) / (std::sqrt(total) + 1e-6)));
}

}  // namespace gradlibra::kernels
