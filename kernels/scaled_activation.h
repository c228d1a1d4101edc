// SPDX-License-Identifier: MIT
// A map times one learned number, then an activation: the scale that dense heads put behind their box regression, one
// per pyramid level (FCOS, arXiv:1904.01355, sec. 3.2).
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class ScaledActivation {
  identity,
  exp,
  clamp  // max(v, 0), whose derivative at 0 is 1: a distance held at 0 can grow
};

// With v = scale[0] * x:  y = f(v). x, y: any equal number of elements, may be none. scale: one element.
void scaled_activation(Cpu&, View<const float> x, View<const float> scale, ScaledActivation f, View<float> y);
void scaled_activation(Cuda&, View<const float> x, View<const float> scale, ScaledActivation f, View<float> y);

// With g = grad_y * f'(v):  grad_x (+)= g * scale[0];  grad_scale (one element) (+)= sum of g * x, in double and a
// fixed order. Either may be unwanted. y: what the forward pass gave. workspace: scaled_activation_workspace(
// x.size()) doubles, the partial sums of kScaledActivationChunk elements each.
inline constexpr int kScaledActivationChunk = 1024;
int64_t scaled_activation_workspace(int64_t size);
void scaled_activation_backward(Cpu&, View<const float> x, View<const float> scale, ScaledActivation f,
                                View<const float> y, View<const float> grad_y, const GradTarget<>& grad_x,
                                const GradTarget<>& grad_scale, View<double> workspace);
void scaled_activation_backward(Cuda&, View<const float> x, View<const float> scale, ScaledActivation f,
                                View<const float> y, View<const float> grad_y, const GradTarget<>& grad_x,
                                const GradTarget<>& grad_scale, View<double> workspace);

// What both versions check first.
void check_scaled_activation(View<const float> x, View<const float> scale, View<const float> y);
void check_scaled_activation_backward(View<const float> x, View<const float> scale, View<const float> y,
                                      View<const float> grad_y, View<float> grad_x, View<float> grad_scale,
                                      View<double> workspace);

}  // namespace gradlibra::kernels
