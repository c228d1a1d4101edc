// SPDX-License-Identifier: MIT
// Nearest-neighbour upsampling and addition on the host.
#include "kernels/upsample_add.h"

#include "kernels/parallel.h"
#include "kernels/row_sum.h"

namespace gradlibra::kernels {

void check_upsample(const char* op, const Shape& coarse, const Shape& fine) {
  require(coarse.rank() == 4 && fine.rank() == 4 && coarse.dim(0) == fine.dim(0) && coarse.dim(3) == fine.dim(3), op,
          "coarse has shape " + coarse.to_string() + ", fine " + fine.to_string() +
              ", expected (N, h, w, C), (N, H, W, C)");
  for (const int d : {1, 2})
    require(coarse.dim(d) >= 1 && coarse.dim(d) <= fine.dim(d), op,
            "coarse has shape " + coarse.to_string() + ", which is not between 1 and the fine " + fine.to_string());
}

template <MapType T>
void upsample_add(Cpu& cpu, In<T> coarse, In<T> fine, View<T> y) {
  check_upsample("upsample_add", coarse.shape(), fine.shape());
  require_shape("upsample_add", "y", y, fine.shape());
  const int64_t h = coarse.dim(1), w = coarse.dim(2), H = fine.dim(1), W = fine.dim(2), C = fine.dim(3);
  parallel_for(cpu, fine.dim(0) * H, 1, [&](int64_t row) {
    const int64_t n = row / H, i = row % H;
    for (int64_t j = 0; j < W; ++j) {
      const T* up = coarse.data() + ((n * h + i * h / H) * w + j * w / W) * C;
      const T* x = fine.data() + (row * W + j) * C;
      T* out = y.data() + (row * W + j) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] = from_float<T>(to_float(x[c]) + to_float(up[c]));
    }
  });
}

template <MapType T>
void upsample_add_backward(Cpu& cpu, In<T> grad_y, View<T> grad_coarse, Accumulate mode) {
  check_upsample("upsample_add_backward", grad_coarse.shape(), grad_y.shape());
  const int64_t h = grad_coarse.dim(1), w = grad_coarse.dim(2), H = grad_y.dim(1), W = grad_y.dim(2), C = grad_y.dim(3);
  // The fine cells i with floor(i*h/H) = a begin at ceil(a*H/h).
  const auto first = [](int64_t a, int64_t fine, int64_t few) { return (a * fine + few - 1) / few; };
  parallel_for(cpu, grad_coarse.dim(0) * h, 1, [&](int64_t row) {
    const int64_t n = row / h, a = row % h;
    for (int64_t b = 0; b < w; ++b)
      for (int64_t start = 0; start < C; start += kRowTile) {
        const int64_t channels = std::min(kRowTile, C - start);
        T* out = grad_coarse.data() + (row * w + b) * C + start;
        RowSum<T> row_sum(out, channels, mode);
        float* sum = row_sum.data();
        for (int64_t i = first(a, H, h); i < first(a + 1, H, h); ++i)
          for (int64_t j = first(b, W, w); j < first(b + 1, W, w); ++j) {
            const T* g = grad_y.data() + ((n * H + i) * W + j) * C + start;
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) sum[c] += to_float(g[c]);
          }
        row_sum.finish();
      }
  });
}

template void upsample_add(Cpu&, View<const float>, View<const float>, View<float>);
template void upsample_add(Cpu&, View<const bfloat16>, View<const bfloat16>, View<bfloat16>);
template void upsample_add_backward(Cpu&, View<const float>, View<float>, Accumulate);
template void upsample_add_backward(Cpu&, View<const bfloat16>, View<bfloat16>, Accumulate);

}  // namespace gradlibra::kernels
