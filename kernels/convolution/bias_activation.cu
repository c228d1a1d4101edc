// SPDX-License-Identifier: MIT
// A thread owns 16 neighbouring bytes of the map: one read of x, one of the residual, one write; the bias stays in a
// cache.
#include "kernels/convolution/bias_activation.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

// Remainders of 64 bits cost dozens of instructions, and a map rarely has 2^32 values.
__device__ int64_t channel_of(int64_t i, int64_t C, bool small) {
  return small ? static_cast<int64_t>(static_cast<uint32_t>(i) % static_cast<uint32_t>(C)) : i % C;
}

struct Layout {
  int64_t size, C;
  bool vectors;       // the maps are aligned
  bool bias_vectors;  // C is a multiple of the pack and bias is aligned, so a pack's channels are a pack of the bias
};

template <class T>
__global__ void bias_activation_kernel(const T* x, const T* __restrict__ bias, const T* residual, bool relu, T* y,
                                       const Layout map) {
  const int64_t C = map.C;
  const bool small = map.size <= int64_t{UINT32_MAX}, bias_vectors = map.bias_vectors;
  for_each_pack<kPack<T>>(map.size, map.vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> v = load<V>(x + i);
    if (residual != nullptr) {
      const Pack<V> b = load<V>(residual + i);
      for (int k = 0; k < V; ++k) v[k] += b[k];
    }
    if (bias != nullptr) {
      int64_t c = channel_of(i, C, small);
      if (bias_vectors) {
        const Pack<V> b = load<V>(bias + c);
        for (int k = 0; k < V; ++k) v[k] += b[k];
      } else {
        for (int k = 0; k < V; ++k) {
          v[k] += to_float(bias[c]);
          c = c + 1 == C ? 0 : c + 1;
        }
      }
    }
    if (relu)
      for (int k = 0; k < V; ++k) v[k] = v[k] < 0 ? 0 : v[k];  // this way round NaN stays NaN
    store<V>(y + i, v);
  });
}

}  // namespace

template <MapType T>
void bias_activation(Cuda& cuda, In<T> x, In<T> bias, In<T> residual, Activation activation, View<T> y) {
  check_bias_activation<T>(x, bias, residual, y);
  if (y.size() == 0) return;
  const int64_t C = y.dim(-1);
  // A null residual counts as aligned.
  const Layout map{y.size(), C, aligned(x.data(), residual.data(), y.data()),
                   C % kPack<T> == 0 && aligned(bias.data())};
  launch(bias_activation_kernel<T>, pack_blocks(y.size(), kPack<T>), kBlock, 0, cuda.stream(), x.data(), bias.data(),
         residual.data(), activation == Activation::relu, y.data(), map);
}

template void bias_activation(Cuda&, View<const float>, View<const float>, View<const float>, Activation, View<float>);
template void bias_activation(Cuda&, View<const bfloat16>, View<const bfloat16>, View<const bfloat16>, Activation,
                              View<bfloat16>);

}  // namespace gradlibra::kernels
