// SPDX-License-Identifier: MIT
#include "kernels/convolution/space_to_depth.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_space_to_depth(const Shape& in, const Shape& out) {
  require(in.rank() == 4 && out.rank() == 4, "space_to_depth", "in and out have four dimensions");
  require(in[0] == out[0] && out[3] >= 4 * in[3], "space_to_depth",
          "in " + in.to_string() + " does not become out " + out.to_string());
}

template <MapType T>
void space_to_depth(Cpu& cpu, In<T> in, int shift, View<T> out) {
  check_space_to_depth(in.shape(), out.shape());
  const int64_t H = in.dim(1), W = in.dim(2), C = in.dim(3);
  const int64_t rows = out.dim(1), columns = out.dim(2), channels = out.dim(3);
  parallel_for(cpu, out.dim(0) * rows, 1, [&](int64_t row) {
    const int64_t n = row / rows, j = row % rows;
    for (int64_t i = 0; i < columns; ++i) {
      T* to = out.data() + (row * columns + i) * channels;
      for (int64_t k = 0; k < channels; ++k) {
        const int64_t tap = C > 0 ? k / C : 4, c = k - tap * C;  // tap = 2 a + b, 4 and more: no channel
        const int64_t y = 2 * j + tap / 2 + shift, x = 2 * i + tap % 2 + shift;
        const bool inside = tap < 4 && y >= 0 && y < H && x >= 0 && x < W;
        to[k] = inside ? in.data()[((n * H + y) * W + x) * C + c] : T{};
      }
    }
  });
}

template void space_to_depth(Cpu&, View<const float>, int, View<float>);
template void space_to_depth(Cpu&, View<const bfloat16>, int, View<bfloat16>);

}  // namespace gradlibra::kernels
