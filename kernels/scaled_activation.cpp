// SPDX-License-Identifier: MIT
#include "kernels/scaled_activation.h"

#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t scaled_activation_workspace(int64_t size) { return chunk_count(size, kScaledActivationChunk); }

void check_scaled_activation(View<const float> x, View<const float> scale, View<const float> y) {
  require(scale.size() == 1, "scaled_activation", "scale holds one element, has " + scale.shape().to_string());
  require(x.size() == y.size(), "scaled_activation",
          x.shape().to_string() + " and " + y.shape().to_string() + " differ in size");
}

void check_scaled_activation_backward(View<const float> x, View<const float> scale, View<const float> y,
                                      View<const float> grad_y, View<float> grad_x, View<float> grad_scale,
                                      View<double> workspace) {
  check_scaled_activation(x, scale, y);
  const char* const op = "scaled_activation_backward";
  require(grad_y.size() == x.size(), op, "grad_y has " + grad_y.shape().to_string());
  require(grad_x.data() == nullptr || grad_x.size() == x.size(), op, "grad_x has " + grad_x.shape().to_string());
  require(grad_scale.data() == nullptr || grad_scale.size() == 1, op, "grad_scale holds one element");
  require(workspace.size() >= scaled_activation_workspace(x.size()), op, "workspace is too small");
}

void scaled_activation(Cpu& cpu, View<const float> x, View<const float> scale, ScaledActivation f, View<float> y) {
  check_scaled_activation(x, scale, y);
  const float s = scale[0];
  parallel_for(cpu, x.size(), kScaledActivationChunk, [&](int64_t i) {
    const float v = s * x[i];
    y[i] = f == ScaledActivation::exp ? std::exp(v) : f == ScaledActivation::clamp && v < 0 ? 0 : v;
  });
}

void scaled_activation_backward(Cpu& cpu, View<const float> x, View<const float> scale, ScaledActivation f,
                                View<const float> y, View<const float> grad_y, const GradTarget<>& grad_x,
                                const GradTarget<>& grad_scale, View<double> workspace) {
  check_scaled_activation_backward(x, scale, y, grad_y, grad_x.grad, grad_scale.grad, workspace);
  const float s = scale[0];
  parallel_chunks(cpu, x.size(), kScaledActivationChunk, [&](int64_t chunk, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      float g = grad_y[i];
      if (f == ScaledActivation::exp) g *= y[i];
      if (f == ScaledActivation::clamp && s * x[i] < 0) g = 0;
      sum += static_cast<double>(g) * static_cast<double>(x[i]);
      if (grad_x.wanted()) grad_x.grad[i] = g * s + (grad_x.adds() ? grad_x.grad[i] : 0);
    }
    workspace[chunk] = sum;
  });
  if (!grad_scale.wanted()) return;
  double total = 0;
  for (int64_t chunk = 0; chunk < scaled_activation_workspace(x.size()); ++chunk) total += workspace[chunk];
  grad_scale.grad[0] = static_cast<float>(total + (grad_scale.adds() ? static_cast<double>(grad_scale.grad[0]) : 0));
}

}  // namespace gradlibra::kernels
