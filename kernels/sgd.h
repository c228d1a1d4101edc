// SPDX-License-Identifier: MIT
// Fused SGD with momentum and weight decay, PyTorch's convention: the rate is not inside the velocity.
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct Sgd {
  float momentum = 0.9f;
  float weight_decay = 1e-4f;
  float lr_factor = 1.0f;  // this tensor's multiple of the rate
};

// d = grad_scale[0] * grad + weight_decay * param;   velocity = momentum * velocity + d;
// param -= lr[0] * lr_factor * velocity.
// lr (1) and grad_scale (1) are device scalars, so that a captured step follows schedule and clipping. A non-finite
// grad_scale[0] leaves everything unchanged. All tensors have the same size; may be empty.
void sgd_step(Cpu&, View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
              View<const float> grad_scale, const Sgd& options);
void sgd_step(Cuda&, View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
              View<const float> grad_scale, const Sgd& options);

// grad_scale[0] = NaN if sum_squares[0] or one of the losses (a few, or none) is not finite: sgd_step then changes
// nothing. Else 1 if max_norm <= 0, else min(1, max_norm / (sqrt(sum_squares[0]) + 1e-6)).
void clip_factor(Cpu&, View<const double> sum_squares, View<const double> losses, float max_norm,
                 View<float> grad_scale);
void clip_factor(Cuda&, View<const double> sum_squares, View<const double> losses, float max_norm,
                 View<float> grad_scale);

// What both versions check first.
void check_sgd_step(View<float> param, View<const float> grad, View<float> velocity, View<const float> lr,
                    View<const float> grad_scale);

}  // namespace gradlibra::kernels
