// SPDX-License-Identifier: MIT
// Nearest-neighbour upsampling and addition on the device. A thread owns V neighbouring channels (16 bytes, or 1 where
// channels or addresses do not allow it) of one cell of the map that is written; the gradient gathers.
#include "kernels/launch.h"
#include "kernels/upsample_add.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

struct Pyramid {
  int h, w, H, W, C;
};

// rows: N * H. fine may be y.
template <int V, class T>
__global__ void upsample_add_kernel(const T* __restrict__ coarse, const T* fine, T* y, const Pyramid s, int64_t rows) {
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (item >= s.W * s.C) return;
  const int c = item % s.C;
  const int64_t b = static_cast<int64_t>(item / s.C) * s.w / s.W;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t n = row / s.H, a = row % s.H * s.h / s.H;
    const int64_t out = row * s.W * s.C + item;
    Pack<V> v = load<V>(fine + out);
    const Pack<V> up = load<V>(coarse + ((n * s.h + a) * s.w + b) * s.C + c);
    for (int k = 0; k < V; ++k) v[k] += up[k];
    store<V>(y + out, v);
  }
}

// The first fine cell i with floor(i*few/fine) = a, that is ceil(a*fine/few).
__device__ int first_cell(int64_t a, int fine, int few) { return static_cast<int>((a * fine + few - 1) / few); }

// rows: N * h.
template <int V, class T>
__global__ void upsample_add_backward_kernel(const T* __restrict__ grad_y, T* __restrict__ grad_coarse, const Pyramid s,
                                             int64_t rows, bool add) {
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (item >= s.w * s.C) return;
  const int b = item / s.C, c = item % s.C;
  const int j_begin = first_cell(b, s.W, s.w), j_end = first_cell(b + 1, s.W, s.w);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t n = row / s.h, a = row % s.h;
    T* out = grad_coarse + row * s.w * s.C + item;
    Pack<V> sum{};
    if (add) sum = load<V>(out);
    for (int i = first_cell(a, s.H, s.h); i < first_cell(a + 1, s.H, s.h); ++i)
      for (int j = j_begin; j < j_end; ++j) {
        const Pack<V> g = load<V>(grad_y + ((n * s.H + i) * s.W + j) * s.C + c);
        for (int k = 0; k < V; ++k) sum[k] += g[k];
      }
    store<V>(out, sum);
  }
}

// Indices inside a row are int.
Pyramid pyramid(const char* op, const Shape& coarse, const Shape& fine) {
  check_upsample(op, coarse, fine);
  require(fine.dim(2) * fine.dim(3) < INT32_MAX - 8 * kBlock && fine.dim(1) < INT32_MAX, op,
          "a row of the fine map has over 2^31 elements");
  return {static_cast<int>(coarse.dim(1)), static_cast<int>(coarse.dim(2)), static_cast<int>(fine.dim(1)),
          static_cast<int>(fine.dim(2)), static_cast<int>(fine.dim(3))};
}

}  // namespace

template <MapType T>
void upsample_add(Cuda& cuda, In<T> coarse, In<T> fine, View<T> y) {
  const Pyramid s = pyramid("upsample_add", coarse.shape(), fine.shape());
  require_shape("upsample_add", "y", y, fine.shape());
  if (y.size() == 0) return;
  const int V = s.C % kPack<T> == 0 && aligned(coarse.data(), fine.data(), y.data()) ? kPack<T> : 1;
  const int64_t rows = y.dim(0) * s.H, items = int64_t{s.W} * s.C / V;
  launch(V > 1 ? upsample_add_kernel<kPack<T>, T> : upsample_add_kernel<1, T>, row_grid(items, rows), row_block(items),
         0, cuda.stream(), coarse.data(), fine.data(), y.data(), s, rows);
}

template <MapType T>
void upsample_add_backward(Cuda& cuda, In<T> grad_y, View<T> grad_coarse, Accumulate mode) {
  const Pyramid s = pyramid("upsample_add_backward", grad_coarse.shape(), grad_y.shape());
  if (grad_coarse.size() == 0) return;
  const int V = s.C % kPack<T> == 0 && aligned(grad_y.data(), grad_coarse.data()) ? kPack<T> : 1;
  const int64_t rows = grad_coarse.dim(0) * s.h, items = int64_t{s.w} * s.C / V;
  launch(V > 1 ? upsample_add_backward_kernel<kPack<T>, T> : upsample_add_backward_kernel<1, T>, row_grid(items, rows),
         row_block(items), 0, cuda.stream(), grad_y.data(), grad_coarse.data(), s, rows, mode == Accumulate::add);
}

template void upsample_add(Cuda&, View<const float>, View<const float>, View<float>);
template void upsample_add(Cuda&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void upsample_add_backward(Cuda&, View<const float>, View<float>, Accumulate);
template void upsample_add_backward(Cuda&, View<const bfloat16>, View<bfloat16>, Accumulate);

}  // namespace gradlibra::kernels
