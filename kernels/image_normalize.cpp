// SPDX-License-Identifier: MIT
// 8-bit images to network input on the host.
#include "kernels/image_normalize.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_image_normalize(View<const uint8_t> images, View<const int32_t> orientations, View<const int32_t> sizes,
                           const Shape& out) {
  const char* op = "image_normalize";
  require(images.rank() == 4 && images.dim(3) == 3, op,
          "images has shape " + images.shape().to_string() + ", expected (N, H, W, 3)");
  require_shape(op, "orientations", orientations, {images.dim(0)});
  require_shape(op, "sizes", sizes, {images.dim(0), 2});
  require(out == images.shape(), op, "out has shape " + out.to_string() + ", expected " + images.shape().to_string());
}

template <MapType T>
void image_normalize(Cpu& cpu, View<const uint8_t> images, View<const int32_t> orientations, View<const int32_t> sizes,
                     const ImageNormalize& options, View<T> out) {
  check_image_normalize(images, orientations, sizes, out.shape());
  const int64_t N = images.dim(0), H = images.dim(1), W = images.dim(2);
  // A byte has 256 values: divide once for each.
  std::array<std::array<T, 256>, 3> table;
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v)
      table[c][v] = from_float<T>((static_cast<float>(v) - options.mean[c]) / options.std[c]);
  const int64_t red = options.bgr ? 2 : 0;  // the stored channel of network channel 0

  parallel_for(cpu, N * H, 8, [&](int64_t row) {
    const int64_t n = row / H, y = row % H;
    const int32_t turn = orientations[n];
    const bool transposed = (turn & kTranspose) != 0;
    const int64_t stored_height = std::clamp<int64_t>(sizes[2 * n], 0, H);
    const int64_t stored_width = std::clamp<int64_t>(sizes[2 * n + 1], 0, W);
    const int64_t height = transposed ? stored_width : stored_height, width = transposed ? stored_height : stored_width;
    const uint8_t* image = images.data() + n * H * W * 3;
    T* to = out.data() + row * W * 3;
    const int64_t valid = y < height ? std::min(width, W) : 0;
    for (int64_t x = 0; x < valid; ++x) {
      const int64_t u = (turn & kFlipVertical) != 0 ? height - 1 - y : y;
      const int64_t v = (turn & kFlipHorizontal) != 0 ? width - 1 - x : x;
      const uint8_t* pixel = image + (transposed ? v * W + u : u * W + v) * 3;
      to[3 * x] = table[0][pixel[red]];
      to[3 * x + 1] = table[1][pixel[1]];
      to[3 * x + 2] = table[2][pixel[2 - red]];
    }
    std::fill(to + 3 * valid, to + 3 * W, T{});
  });
}

template void image_normalize(Cpu&, View<const uint8_t>, View<const int32_t>, View<const int32_t>,
                              const ImageNormalize&, View<float>);
template void image_normalize(Cpu&, View<const uint8_t>, View<const int32_t>, View<const int32_t>,
                              const ImageNormalize&, View<bfloat16>);

}  // namespace gradlibra::kernels
