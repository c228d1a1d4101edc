// SPDX-License-Identifier: MIT
// Elementwise kernels on the host: every function is one vectorised loop over equal pieces.
#include "kernels/elementwise.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {
namespace {

constexpr int64_t kGrain = 32768;

// body(i) for every element; `omp simd` because an output may be the same array as an input.
template <class Body>
void for_each(Cpu& cpu, int64_t size, Body&& body) {
  parallel_chunks(cpu, size, kGrain, [&](int64_t, int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

inline float positive(float v) { return v < 0 ? 0 : v; }  // this way round NaN stays NaN

}  // namespace

void fill(Cpu& cpu, View<float> y, float value) {
  for_each(cpu, y.size(), [y = y.data(), value](int64_t i) { y[i] = value; });
}

void copy(Cpu& cpu, View<const float> x, View<float> y, Accumulate mode) {
  require_same_size("copy", x, y);
  if (mode == Accumulate::add)
    for_each(cpu, y.size(), [x = x.data(), y = y.data()](int64_t i) { y[i] += x[i]; });
  else
    for_each(cpu, y.size(), [x = x.data(), y = y.data()](int64_t i) { y[i] = x[i]; });
}

void scale(Cpu& cpu, View<const float> x, float factor, View<float> y, Accumulate mode) {
  require_same_size("scale", x, y);
  if (mode == Accumulate::add)
    for_each(cpu, y.size(), [x = x.data(), y = y.data(), factor](int64_t i) { y[i] += factor * x[i]; });
  else
    for_each(cpu, y.size(), [x = x.data(), y = y.data(), factor](int64_t i) { y[i] = factor * x[i]; });
}

void relu(Cpu& cpu, View<const float> x, View<float> y) {
  require_same_size("relu", x, y);
  for_each(cpu, y.size(), [x = x.data(), y = y.data()](int64_t i) { y[i] = positive(x[i]); });
}

void add_relu(Cpu& cpu, View<const float> a, View<const float> b, View<float> y) {
  require_same_size("add_relu", a, y);
  require_same_size("add_relu", b, y);
  for_each(cpu, y.size(), [a = a.data(), b = b.data(), y = y.data()](int64_t i) { y[i] = positive(a[i] + b[i]); });
}

void relu_backward(Cpu& cpu, View<const float> y, View<const float> grad_y, View<float> grad_x, Accumulate mode) {
  require_same_size("relu_backward", y, grad_x);
  require_same_size("relu_backward", grad_y, grad_x);
  const float *y_ = y.data(), *g = grad_y.data();
  float* dx = grad_x.data();
  if (mode == Accumulate::add)
    for_each(cpu, grad_x.size(), [=](int64_t i) { dx[i] += y_[i] > 0 ? g[i] : 0.0f; });
  else
    for_each(cpu, grad_x.size(), [=](int64_t i) { dx[i] = y_[i] > 0 ? g[i] : 0.0f; });
}

void cast(Cpu& cpu, View<const float> x, View<bfloat16> y) {
  require_same_size("cast", x, y);
  for_each(cpu, y.size(), [x = x.data(), y = y.data()](int64_t i) { y[i] = to_bfloat16(x[i]); });
}

void cast(Cpu& cpu, View<const bfloat16> x, View<float> y) {
  require_same_size("cast", x, y);
  for_each(cpu, y.size(), [x = x.data(), y = y.data()](int64_t i) { y[i] = to_float(x[i]); });
}

}  // namespace gradlibra::kernels
