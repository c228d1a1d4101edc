// SPDX-License-Identifier: MIT
// Max pooling on the host: one output cell at a time, all its channels side by side.
#include "kernels/max_pool.h"

#include "kernels/parallel.h"
#include "kernels/row_sum.h"

namespace gradlibra::kernels {

void check_max_pool(const char* op, const Shape& x, const Shape& y, const Shape& taps, const PoolShape& s) {
  require(x.rank() == 4, op, "x has shape " + x.to_string() + ", expected (N, H, W, C)");
  require(s.kernel >= 1 && s.kernel <= 15 && s.stride >= 1 && s.padding >= 0 && s.padding < s.kernel, op,
          "kernel " + std::to_string(s.kernel) + ", stride " + std::to_string(s.stride) + ", padding " +
              std::to_string(s.padding) + ": needs padding < kernel <= 15 and stride >= 1");
  for (const int d : {1, 2})
    require(x.dim(d) >= 1 && x.dim(d) + 2 * s.padding >= s.kernel, op,
            "kernel " + std::to_string(s.kernel) + " does not fit x of shape " + x.to_string());
  const Shape pooled{x.dim(0), pooled_size(x.dim(1), s), pooled_size(x.dim(2), s), x.dim(3)};
  require(y == pooled, op, "y has shape " + y.to_string() + ", expected " + pooled.to_string());
  require(taps == pooled, op, "taps has shape " + taps.to_string() + ", expected " + pooled.to_string());
}

namespace {

constexpr int64_t kTile = 256;  // channels whose running values fit the L1 cache

// One image, from its channel `first` on.
template <MapType T>
struct Image {
  const T* first;
  int64_t H, W, C;
};

// The maximum over the taps of output cell (i, j) for the image's first `channels` channels.
template <MapType T>
void pool_cell(const Image<T>& x, const PoolShape& s, int64_t i, int64_t j, int64_t channels, T* y, uint8_t* taps) {
  float best[kTile];
  int32_t winner[kTile];
  bool first = true;
  for (int kr = 0; kr < s.kernel; ++kr) {
    const int64_t h = i * s.stride - s.padding + kr;
    if (h < 0 || h >= x.H) continue;
    for (int kc = 0; kc < s.kernel; ++kc) {
      const int64_t w = j * s.stride - s.padding + kc;
      if (w < 0 || w >= x.W) continue;
      const T* v = x.first + (h * x.W + w) * x.C;
      const int32_t tap = kr * s.kernel + kc;
      if (first) {
        for (int64_t c = 0; c < channels; ++c) best[c] = to_float(v[c]);
        for (int64_t c = 0; c < channels; ++c) winner[c] = tap;
        first = false;
        continue;
      }
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float value = to_float(v[c]);
        const bool wins = !(value <= best[c]) && best[c] == best[c];  // greater, or the first NaN
        best[c] = wins ? value : best[c];
        winner[c] = wins ? tap : winner[c];
      }
    }
  }
  for (int64_t c = 0; c < channels; ++c) y[c] = from_float<T>(best[c]);
  for (int64_t c = 0; c < channels; ++c) taps[c] = static_cast<uint8_t>(winner[c]);
}

}  // namespace

template <MapType T>
void max_pool(Cpu& cpu, In<T> x, const PoolShape& shape, View<T> y, View<uint8_t> taps) {
  check_max_pool("max_pool", x.shape(), y.shape(), taps.shape(), shape);
  const int64_t H = x.dim(1), W = x.dim(2), C = x.dim(3), pooled_H = y.dim(1), pooled_W = y.dim(2);
  parallel_for(cpu, x.dim(0) * pooled_H, 1, [&](int64_t row) {
    const T* image = x.data() + row / pooled_H * H * W * C;
    for (int64_t j = 0; j < pooled_W; ++j)
      for (int64_t c = 0; c < C; c += kTile) {
        const int64_t out = (row * pooled_W + j) * C + c;
        pool_cell(Image<T>{image + c, H, W, C}, shape, row % pooled_H, j, std::min(kTile, C - c), y.data() + out,
                  taps.data() + out);
      }
  });
}

template <MapType T>
void max_pool_backward(Cpu& cpu, In<T> grad_y, View<const uint8_t> taps, const PoolShape& shape, View<T> grad_x,
                       Accumulate mode) {
  check_max_pool("max_pool_backward", grad_x.shape(), grad_y.shape(), taps.shape(), shape);
  const int64_t H = grad_x.dim(1), W = grad_x.dim(2), C = grad_x.dim(3), pooled_H = grad_y.dim(1),
                pooled_W = grad_y.dim(2);
  const int64_t k = shape.kernel, s = shape.stride, p = shape.padding;
  // Windows i that contain h:  i*s - p <= h < i*s - p + k.
  const auto first_window = [=](int64_t h) { return h + p < k ? int64_t{0} : (h + p - k) / s + 1; };
  const auto last_window = [=](int64_t h, int64_t pooled) { return std::min((h + p) / s, pooled - 1); };
  parallel_for(cpu, grad_x.dim(0) * H, 1, [&](int64_t row) {
    const int64_t n = row / H, h = row % H, i_begin = first_window(h), i_last = last_window(h, pooled_H);
    for (int64_t w = 0; w < W; ++w) {
      const int64_t j_begin = first_window(w), j_last = last_window(w, pooled_W);
      for (int64_t first = 0; first < C; first += kRowTile) {
        const int64_t channels = std::min(kRowTile, C - first);
        T* out = grad_x.data() + (row * W + w) * C + first;
        RowSum<T> row_sum(out, channels, mode);
        float* sum = row_sum.data();
        for (int64_t i = i_begin; i <= i_last; ++i)
          for (int64_t j = j_begin; j <= j_last; ++j) {
            const int64_t cell = ((n * pooled_H + i) * pooled_W + j) * C + first;
            const T* g = grad_y.data() + cell;
            const uint8_t* winner = taps.data() + cell;
            const auto tap = static_cast<uint8_t>((h + p - i * s) * k + (w + p - j * s));
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) sum[c] += winner[c] == tap ? to_float(g[c]) : 0.0f;
          }
        row_sum.finish();
      }
    }
  });
}

template void max_pool(Cpu&, View<const float>, const PoolShape&, View<float>, View<uint8_t>);
template void max_pool(Cpu&, View<const bfloat16>, const PoolShape&, View<bfloat16>, View<uint8_t>);
template void max_pool_backward(Cpu&, View<const float>, View<const uint8_t>, const PoolShape&, View<float>,
                                Accumulate);
template void max_pool_backward(Cpu&, View<const bfloat16>, View<const uint8_t>, const PoolShape&, View<bfloat16>,
                                Accumulate);

}  // namespace gradlibra::kernels
