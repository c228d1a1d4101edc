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

// y[i] (+)= f(i's value of each input)
template <class F, MapType T, MapType... Input>
void map(Cpu& cpu, F f, View<T> out, Accumulate mode, const Input*... inputs) {
  if (mode == Accumulate::add)
    for_each(cpu, out.size(),
             [=, y = out.data()](int64_t i) { y[i] = from_float<T>(to_float(y[i]) + f(to_float(inputs[i])...)); });
  else
    for_each(cpu, out.size(), [=, y = out.data()](int64_t i) { y[i] = from_float<T>(f(to_float(inputs[i])...)); });
}

constexpr auto identity = [](float v) { return v; };
inline float positive(float v) { return v < 0 ? 0 : v; }  // this way round NaN stays NaN

}  // namespace

void check_subtract_row(View<const float> x, View<const float> row, View<float> y) {
  require(x.rank() >= 1, "subtract_row", "x has no channels");
  require_shape("subtract_row", "row", row, {x.dim(-1)});
  require_same_size("subtract_row", x, y);
}

template <MapType T>
void fill(Cpu& cpu, View<T> y, float value) {
  for_each(cpu, y.size(), [y = y.data(), v = from_float<T>(value)](int64_t i) { y[i] = v; });
}

template <MapType T>
void copy(Cpu& cpu, In<T> x, View<T> y, Accumulate mode) {
  require_same_size("copy", x, y);
  map(cpu, identity, y, mode, x.data());
}

template <MapType T>
void scale(Cpu& cpu, In<T> x, float factor, View<T> y, Accumulate mode) {
  require_same_size("scale", x, y);
  map(
      cpu, [factor](float v) { return factor * v; }, y, mode, x.data());
}

template <MapType T>
void add(Cpu& cpu, In<T> a, In<T> b, View<T> y) {
  require_same_size("add", a, y);
  require_same_size("add", b, y);
  map(
      cpu, [](float u, float v) { return u + v; }, y, Accumulate::overwrite, a.data(), b.data());
}

void subtract_row(Cpu& cpu, View<const float> x, View<const float> row, View<float> y) {
  check_subtract_row(x, row, y);
  const int64_t C = row.size();
  if (C == 0) return;
  parallel_for(cpu, x.size() / C, kGrain / C + 1, [=](int64_t r) {
    const float *from = x.data() + r * C, *less = row.data();
    float* to = y.data() + r * C;
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) to[c] = from[c] - less[c];
  });
}

template <MapType T>
void relu(Cpu& cpu, In<T> x, View<T> y) {
  require_same_size("relu", x, y);
  map(
      cpu, [](float v) { return positive(v); }, y, Accumulate::overwrite, x.data());
}

template <MapType T>
void add_relu(Cpu& cpu, In<T> a, In<T> b, View<T> y) {
  require_same_size("add_relu", a, y);
  require_same_size("add_relu", b, y);
  map(
      cpu, [](float u, float v) { return positive(u + v); }, y, Accumulate::overwrite, a.data(), b.data());
}

template <MapType T>
void relu_backward(Cpu& cpu, In<T> y, In<T> grad_y, View<T> grad_x, Accumulate mode) {
  require_same_size("relu_backward", y, grad_x);
  require_same_size("relu_backward", grad_y, grad_x);
  map(
      cpu, [](float out, float g) { return out > 0 ? g : 0.0f; }, grad_x, mode, y.data(), grad_y.data());
}

void cast(Cpu& cpu, View<const float> x, View<bfloat16> y, Accumulate mode) {
  require_same_size("cast", x, y);
  map(cpu, identity, y, mode, x.data());
}

void cast(Cpu& cpu, View<const bfloat16> x, View<float> y, Accumulate mode) {
  require_same_size("cast", x, y);
  map(cpu, identity, y, mode, x.data());
}

template void fill(Cpu&, View<float>, float);
template void copy(Cpu&, View<const float>, View<float>, Accumulate);
template void scale(Cpu&, View<const float>, float, View<float>, Accumulate);
template void add(Cpu&, View<const float>, View<const float>, View<float>);
template void relu(Cpu&, View<const float>, View<float>);
template void add_relu(Cpu&, View<const float>, View<const float>, View<float>);
template void relu_backward(Cpu&, View<const float>, View<const float>, View<float>, Accumulate);

template void fill(Cpu&, View<bfloat16>, float);
template void copy(Cpu&, View<const bfloat16>, View<bfloat16>, Accumulate);
template void scale(Cpu&, View<const bfloat16>, float, View<bfloat16>, Accumulate);
template void add(Cpu&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void relu(Cpu&, View<const bfloat16>, View<bfloat16>);
template void add_relu(Cpu&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void relu_backward(Cpu&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>, Accumulate);

}  // namespace gradlibra::kernels
