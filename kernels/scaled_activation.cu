// SPDX-License-Identifier: MIT
// A thread owns every kBlock-th element of a block's kScaledActivationChunk. The gradient of the one scale is summed
// per block, then by one block over all of them.
#include "kernels/block_sum.cuh"
#include "kernels/scaled_activation.h"

namespace gradlibra::kernels {

namespace {

__global__ void scaled_activation_kernel(const float* __restrict__ x, const float* __restrict__ scale,
                                         ScaledActivation f, int64_t size, float* __restrict__ y) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const float v = scale[0] * x[i];
  y[i] = f == ScaledActivation::exp ? expf(v) : f == ScaledActivation::clamp && v < 0 ? 0 : v;
}

struct ScaledActivationGrad {
  const float* x;
  const float* scale;
  const float* y;
  const float* grad_y;
  float* grad_x;      // or null
  float* grad_scale;  // or null
  double* partials;   // one per block
  int64_t size;
  ScaledActivation f;
  bool add_x, add_scale;
};

__global__ void scaled_activation_backward_kernel(const ScaledActivationGrad a) {
  const float s = a.scale[0];
  const int64_t begin = int64_t{blockIdx.x} * kScaledActivationChunk;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < begin + kScaledActivationChunk && i < a.size; i += kBlock) {
    const float x = a.x[i];
    float g = a.grad_y[i];
    if (a.f == ScaledActivation::exp) g *= a.y[i];
    if (a.f == ScaledActivation::clamp && s * x < 0) g = 0;
    sum += double{g} * double{x};
    if (a.grad_x != nullptr) a.grad_x[i] = g * s + (a.add_x ? a.grad_x[i] : 0);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) a.partials[blockIdx.x] = sum;
}

__global__ void scale_gradient_kernel(const ScaledActivationGrad a, int64_t blocks) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kBlock) total += a.partials[i];
  total = block_sum(total);
  if (threadIdx.x == 0) a.grad_scale[0] = static_cast<float>(total + (a.add_scale ? double{a.grad_scale[0]} : 0));
}

}  // namespace

void scaled_activation(Cuda& cuda, View<const float> x, View<const float> scale, ScaledActivation f, View<float> y) {
  check_scaled_activation(x, scale, y);
  if (x.size() == 0) return;
  launch(scaled_activation_kernel, blocks_for(x.size(), kBlock), kBlock, 0, cuda.stream(), x.data(), scale.data(), f,
         x.size(), y.data());
}

void scaled_activation_backward(Cuda& cuda, View<const float> x, View<const float> scale, ScaledActivation f,
                                View<const float> y, View<const float> grad_y, const GradTarget<>& grad_x,
                                const GradTarget<>& grad_scale, View<double> workspace) {
  check_scaled_activation_backward(x, scale, y, grad_y, grad_x.grad, grad_scale.grad, workspace);
  const int64_t blocks = scaled_activation_workspace(x.size());
  const ScaledActivationGrad args = {.x = x.data(),
                                     .scale = scale.data(),
                                     .y = y.data(),
                                     .grad_y = grad_y.data(),
                                     .grad_x = grad_x.grad.data(),
                                     .grad_scale = grad_scale.grad.data(),
                                     .partials = workspace.data(),
                                     .size = x.size(),
                                     .f = f,
                                     .add_x = grad_x.adds(),
                                     .add_scale = grad_scale.adds()};
  if (blocks > 0)
    launch(scaled_activation_backward_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  if (grad_scale.wanted()) launch(scale_gradient_kernel, 1, kBlock, 0, cuda.stream(), args, blocks);
}

}  // namespace gradlibra::kernels
