// SPDX-License-Identifier: MIT
// A thread owns up to 16 neighbouring bytes of one result pixel: the stores are whole, the scattered small loads hit
// the cache, where neighbours have brought their lines.
#include "kernels/convolution/space_to_depth.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

struct Sizes {
  int H, W, C;
  int rows, columns, channels;  // of the result
  int shift;
};

template <int V, class T>
__global__ void space_to_depth_kernel(const T* __restrict__ in, T* __restrict__ out, const Sizes s, int64_t packs) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int per_pixel = s.channels / V;
  for (int64_t pack = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; pack < packs; pack += threads) {
    const int64_t pixel = pack / per_pixel, row = pixel / s.columns;
    const int first = static_cast<int>(pack % per_pixel) * V;
    const int i = static_cast<int>(pixel % s.columns), j = static_cast<int>(row % s.rows);
    const T* image = in + row / s.rows * s.H * s.W * s.C;
    Pack<V> values{};
    for (int k = 0; k < V; ++k) {
      if (first + k >= 4 * s.C) continue;
      const int tap = (first + k) / s.C, c = (first + k) % s.C;
      const int y = 2 * j + tap / 2 + s.shift, x = 2 * i + tap % 2 + s.shift;
      if (y >= 0 && y < s.H && x >= 0 && x < s.W)
        values[k] = to_float(image[(static_cast<int64_t>(y) * s.W + x) * s.C + c]);
    }
    store<V>(out + pixel * s.channels + first, values);
  }
}

}  // namespace

template <MapType T>
void space_to_depth(Cuda& cuda, In<T> in, int shift, View<T> out) {
  check_space_to_depth(in.shape(), out.shape());
  if (out.size() == 0) return;
  const auto narrow = [](int64_t size) {
    require(size < INT32_MAX / 4, "space_to_depth", "a side or the channels are too many");
    return static_cast<int>(size);
  };
  const Sizes sizes{narrow(in.dim(1)),
                    narrow(in.dim(2)),
                    narrow(in.dim(3)),
                    narrow(out.dim(1)),
                    narrow(out.dim(2)),
                    narrow(out.dim(3)),
                    shift};
  const int V = out.dim(3) % kPack<T> == 0 && aligned(out.data()) ? kPack<T> : 1;
  launch(V > 1 ? space_to_depth_kernel<kPack<T>, T> : space_to_depth_kernel<1, T>, pack_blocks(out.size(), V), kBlock,
         0, cuda.stream(), in.data(), out.data(), sizes, out.size() / V);
}

template void space_to_depth(Cuda&, View<const float>, int, View<float>);
template void space_to_depth(Cuda&, View<const bfloat16>, int, View<bfloat16>);

}  // namespace gradlibra::kernels
