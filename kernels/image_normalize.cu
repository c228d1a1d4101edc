// SPDX-License-Identifier: MIT
// 8-bit images to network input on the device. A thread owns 16 neighbouring bytes of an output row (one value where
// the row is no multiple of 16 bytes): the stores, two or four times as many bytes as the loads, are the cost.
#include "kernels/image_normalize.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

// ImageNormalize without std::array, whose members are host functions.
struct Normalization {
  float mean[3], std[3];
  bool bgr;
};

__device__ int clamp(int value, int high) { return value < 0 ? 0 : value > high ? high : value; }

// rows: N * H.
template <int V, class T>
__global__ void image_normalize_kernel(const uint8_t* __restrict__ images, const int32_t* __restrict__ orientations,
                                       const int32_t* __restrict__ sizes, const Normalization options,
                                       T* __restrict__ out, int H, int W, int64_t rows) {
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (item >= 3 * W) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t n = row / H;
    const int y = static_cast<int>(row % H);
    const int turn = orientations[n];
    const bool transposed = (turn & kTranspose) != 0;
    const int stored_height = clamp(sizes[2 * n], H), stored_width = clamp(sizes[2 * n + 1], W);
    const int height = transposed ? stored_width : stored_height, width = transposed ? stored_height : stored_width;
    const uint8_t* image = images + n * H * W * 3;
    Pack<V> values{};
    for (int k = 0; k < V; ++k) {
      const int x = (item + k) / 3, c = (item + k) % 3;
      if (y >= height || x >= width) continue;
      const int u = (turn & kFlipVertical) != 0 ? height - 1 - y : y;
      const int v = (turn & kFlipHorizontal) != 0 ? width - 1 - x : x;
      const int64_t pixel = transposed ? static_cast<int64_t>(v) * W + u : static_cast<int64_t>(u) * W + v;
      const float value = image[3 * pixel + (options.bgr ? 2 - c : c)];
      // Selected, not indexed: an index known only at run time would move the options to local memory.
      const float mean = c == 0 ? options.mean[0] : c == 1 ? options.mean[1] : options.mean[2];
      const float std = c == 0 ? options.std[0] : c == 1 ? options.std[1] : options.std[2];
      values[k] = (value - mean) / std;
    }
    store<V>(out + row * W * 3 + item, values);
  }
}

}  // namespace

template <MapType T>
void image_normalize(Cuda& cuda, View<const uint8_t> images, View<const int32_t> orientations,
                     View<const int32_t> sizes, const ImageNormalize& options, View<T> out) {
  check_image_normalize(images, orientations, sizes, out.shape());
  const int64_t H = out.dim(1), W = out.dim(2), rows = out.dim(0) * H;
  if (out.size() == 0) return;
  require(3 * W < INT32_MAX - 8 * kBlock && H < INT32_MAX, "image_normalize", "a row has over 2^31 elements");
  const int V = 3 * W % kPack<T> == 0 && aligned(out.data()) ? kPack<T> : 1;
  const auto& [mean, std, bgr] = options;
  const Normalization plain{{mean[0], mean[1], mean[2]}, {std[0], std[1], std[2]}, bgr};
  const int64_t items = 3 * W / V;
  launch(V > 1 ? image_normalize_kernel<kPack<T>, T> : image_normalize_kernel<1, T>, row_grid(items, rows),
         row_block(items), 0, cuda.stream(), images.data(), orientations.data(), sizes.data(), plain, out.data(),
         static_cast<int>(H), static_cast<int>(W), rows);
}

template void image_normalize(Cuda&, View<const uint8_t>, View<const int32_t>, View<const int32_t>,
                              const ImageNormalize&, View<float>);
template void image_normalize(Cuda&, View<const uint8_t>, View<const int32_t>, View<const int32_t>,
                              const ImageNormalize&, View<bfloat16>);

}  // namespace gradlibra::kernels
