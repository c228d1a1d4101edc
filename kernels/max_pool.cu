// SPDX-License-Identifier: MIT
// Max pooling on the device. A thread owns V neighbouring channels (16 bytes, or 1 where channels or addresses do not
// allow it) of one output cell; threads of a block lie along a row (width x channels), so that a warp reads
// neighbouring bytes.
#include "kernels/launch.h"
#include "kernels/max_pool.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

struct Pool {
  PoolShape window;
  int H, W, C, pooled_H, pooled_W;
};

template <int V>
__device__ void store_taps(uint8_t* p, const int (&tap)[V]) {
  if constexpr (V == 4) {
    *reinterpret_cast<uchar4*>(p) = make_uchar4(static_cast<unsigned char>(tap[0]), static_cast<unsigned char>(tap[1]),
                                                static_cast<unsigned char>(tap[2]), static_cast<unsigned char>(tap[3]));
  } else if constexpr (V == 8) {
    unsigned word[2] = {};
    for (int k = 0; k < 8; ++k) word[k / 4] |= static_cast<unsigned>(tap[k]) << k % 4 * 8;
    *reinterpret_cast<uint2*>(p) = make_uint2(word[0], word[1]);
  } else {
    *p = static_cast<uint8_t>(tap[0]);
  }
}

template <int V>
__device__ void load_taps(const uint8_t* p, int (&tap)[V]) {
  if constexpr (V == 4) {
    const uchar4 q = *reinterpret_cast<const uchar4*>(p);
    tap[0] = q.x, tap[1] = q.y, tap[2] = q.z, tap[3] = q.w;
  } else if constexpr (V == 8) {
    const uint2 q = *reinterpret_cast<const uint2*>(p);
    for (int k = 0; k < 8; ++k) tap[k] = static_cast<int>((k < 4 ? q.x : q.y) >> k % 4 * 8 & 0xffu);
  } else {
    tap[0] = *p;
  }
}

// rows: N * pooled_H.
template <int V, class T>
__global__ void max_pool_kernel(const T* __restrict__ x, T* __restrict__ y, uint8_t* __restrict__ taps, const Pool s,
                                int64_t rows) {
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (item >= s.pooled_W * s.C) return;
  const int j = item / s.C, c = item % s.C;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t n = row / s.pooled_H;
    const int top = static_cast<int>(row % s.pooled_H) * s.window.stride - s.window.padding;
    const int left = j * s.window.stride - s.window.padding;
    Pack<V> best;
    int winner[V];
    bool first = true;
    for (int kr = 0; kr < s.window.kernel; ++kr) {
      const int h = top + kr;
      if (h < 0 || h >= s.H) continue;
      for (int kc = 0; kc < s.window.kernel; ++kc) {
        const int w = left + kc;
        if (w < 0 || w >= s.W) continue;
        const Pack<V> v = load<V>(x + ((n * s.H + h) * s.W + w) * s.C + c);
        for (int k = 0; k < V; ++k) {
          // Not greater, and not the first NaN.
          if (!first && (v[k] <= best[k] || best[k] != best[k])) continue;  // NOLINT(misc-redundant-expression)
          best[k] = v[k];
          winner[k] = kr * s.window.kernel + kc;
        }
        first = false;
      }
    }
    const int64_t out = row * s.pooled_W * s.C + item;
    store<V>(y + out, best);
    store_taps<V>(taps + out, winner);
  }
}

// Gathers: the thread of (h, w) asks each window i with  i*stride - padding <= h < i*stride - padding + kernel  (and so
// for w) whether this was its winner. rows: N * H.
template <int V, class T>
__global__ void max_pool_backward_kernel(const T* __restrict__ grad_y, const uint8_t* __restrict__ taps,
                                         T* __restrict__ grad_x, const Pool s, int64_t rows, bool add) {
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (item >= s.W * s.C) return;
  const int kernel = s.window.kernel, stride = s.window.stride;
  const int c = item % s.C, w = item / s.C + s.window.padding;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t n = row / s.H;
    const int h = static_cast<int>(row % s.H) + s.window.padding;
    Pack<V> sum{};
    for (int i = h < kernel ? 0 : (h - kernel) / stride + 1; i <= min(h / stride, s.pooled_H - 1); ++i)
      for (int j = w < kernel ? 0 : (w - kernel) / stride + 1; j <= min(w / stride, s.pooled_W - 1); ++j) {
        const int64_t cell = ((n * s.pooled_H + i) * s.pooled_W + j) * s.C + c;
        int winner[V];
        load_taps<V>(taps + cell, winner);
        const Pack<V> g = load<V>(grad_y + cell);
        const int tap = (h - i * stride) * kernel + (w - j * stride);
        for (int k = 0; k < V; ++k) sum[k] += winner[k] == tap ? g[k] : 0;
      }
    store<V>(grad_x + row * s.W * s.C + item, sum, add);
  }
}

// Indices inside a row of either map are int.
Pool pool(const char* op, const Shape& x, const Shape& y, const PoolShape& window) {
  require(x.dim(2) * x.dim(3) < INT32_MAX - 8 * kBlock && x.dim(1) < INT32_MAX, op,
          "a row of x has over 2^31 elements");
  return {window,
          static_cast<int>(x.dim(1)),
          static_cast<int>(x.dim(2)),
          static_cast<int>(x.dim(3)),
          static_cast<int>(y.dim(1)),
          static_cast<int>(y.dim(2))};
}

// The V of a launch.
template <class T>
int width_of(const Pool& s, const uint8_t* taps, const T* x, const T* y) {
  constexpr int V = kPack<T>;
  return s.C % V == 0 && aligned(x, y) && aligned<V>(taps) ? V : 1;
}

}  // namespace

template <MapType T>
void max_pool(Cuda& cuda, In<T> x, const PoolShape& shape, View<T> y, View<uint8_t> taps) {
  check_max_pool("max_pool", x.shape(), y.shape(), taps.shape(), shape);
  if (y.size() == 0) return;
  const Pool s = pool("max_pool", x.shape(), y.shape(), shape);
  const int V = width_of<T>(s, taps.data(), x.data(), y.data());
  const int64_t rows = y.dim(0) * s.pooled_H, items = int64_t{s.pooled_W} * s.C / V;
  launch(V > 1 ? max_pool_kernel<kPack<T>, T> : max_pool_kernel<1, T>, row_grid(items, rows), row_block(items), 0,
         cuda.stream(), x.data(), y.data(), taps.data(), s, rows);
}

template <MapType T>
void max_pool_backward(Cuda& cuda, In<T> grad_y, View<const uint8_t> taps, const PoolShape& shape, View<T> grad_x,
                       Accumulate mode) {
  check_max_pool("max_pool_backward", grad_x.shape(), grad_y.shape(), taps.shape(), shape);
  if (grad_x.size() == 0) return;
  const Pool s = pool("max_pool_backward", grad_x.shape(), grad_y.shape(), shape);
  const int V = width_of<T>(s, taps.data(), grad_x.data(), grad_y.data());
  const int64_t rows = grad_x.dim(0) * s.H, items = int64_t{s.W} * s.C / V;
  launch(V > 1 ? max_pool_backward_kernel<kPack<T>, T> : max_pool_backward_kernel<1, T>, row_grid(items, rows),
         row_block(items), 0, cuda.stream(), grad_y.data(), taps.data(), grad_x.data(), s, rows,
         mode == Accumulate::add);
}

template void max_pool(Cuda&, View<const float>, const PoolShape&, View<float>, View<uint8_t>);
template void max_pool(Cuda&, View<const bfloat16>, const PoolShape&, View<bfloat16>, View<uint8_t>);
template void max_pool_backward(Cuda&, View<const float>, View<const uint8_t>, const PoolShape&, View<float>,
                                Accumulate);
template void max_pool_backward(Cuda&, View<const bfloat16>, View<const uint8_t>, const PoolShape&, View<bfloat16>,
                                Accumulate);

}  // namespace gradlibra::kernels
