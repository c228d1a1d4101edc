// SPDX-License-Identifier: MIT
#include "kernels/convolution/bias_activation.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {
namespace {

constexpr int64_t kGrain = 32768;

// body(r) for every row, which is to vectorise over channels: what is left out must be known when it is compiled.
template <bool kBias, bool kResidual, bool kRelu, MapType T>
void rows(Cpu& cpu, const T* x, const T* bias, const T* residual, T* y, int64_t count, int64_t C) {
  parallel_for(cpu, count, kGrain / C + 1, [=](int64_t r) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const int64_t i = r * C + c;
      float v = to_float(x[i]);
      if constexpr (kResidual) v += to_float(residual[i]);
      if constexpr (kBias) v += to_float(bias[c]);
      if constexpr (kRelu) v = v < 0 ? 0 : v;  // this way round NaN stays NaN
      y[i] = from_float<T>(v);
    }
  });
}

// Calls body(std::bool_constant) with `flag` as a constant.
template <class Body>
void with_constant(bool flag, Body&& body) {
  if (flag)
    body(std::true_type{});
  else
    body(std::false_type{});
}

}  // namespace

template <MapType T>
void bias_activation(Cpu& cpu, In<T> x, In<T> bias, In<T> residual, Activation activation, View<T> y) {
  check_bias_activation<T>(x, bias, residual, y);
  const int64_t C = y.dim(-1);
  if (y.size() == 0) return;
  with_constant(bias.data() != nullptr, [&](auto has_bias) {
    with_constant(residual.data() != nullptr, [&](auto has_residual) {
      with_constant(activation == Activation::relu, [&](auto relu) {
        rows<has_bias, has_residual, relu>(cpu, x.data(), bias.data(), residual.data(), y.data(), y.size() / C, C);
      });
    });
  });
}

template void bias_activation(Cpu&, View<const float>, View<const float>, View<const float>, Activation, View<float>);
template void bias_activation(Cpu&, View<const bfloat16>, View<const bfloat16>, View<const bfloat16>, Activation,
                              View<bfloat16>);

}  // namespace gradlibra::kernels
