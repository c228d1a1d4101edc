// SPDX-License-Identifier: MIT
// Deformable columns on the host: a tap's position is worked out once, then all channels follow in contiguous loops.
#include "kernels/convolution/deform_im2col.h"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <vector>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

// Where one tap reads. Corners v00 (y0, x0), v01 (y0, x0 + 1), v10 (y0 + 1, x0), v11 as index of their cell, -1
// outside.
struct Tap {
  bool inside = false;  // else the sample and all its derivatives are 0
  float ly = 0, lx = 0, mask = 1;
  int64_t corner[4] = {-1, -1, -1, -1};
  float weight[4] = {0, 0, 0, 0};  // before the mask
  [[nodiscard]] bool all_corners() const { return std::min({corner[0], corner[1], corner[2], corner[3]}) >= 0; }
};

Tap tap_at(float py, float px, int64_t image, const DeformDims& d) {
  Tap tap;
  // Negated, so that NaN counts as outside.
  if (!(py > -1 && py < static_cast<float>(d.H) && px > -1 && px < static_cast<float>(d.W))) return tap;
  tap.inside = true;
  const float fy = std::floor(py), fx = std::floor(px);
  const auto y0 = static_cast<int64_t>(fy), x0 = static_cast<int64_t>(fx);
  tap.ly = py - fy;
  tap.lx = px - fx;
  const bool rows[2] = {y0 >= 0, y0 + 1 < d.H}, cols[2] = {x0 >= 0, x0 + 1 < d.W};
  const float wy[2] = {1 - tap.ly, tap.ly}, wx[2] = {1 - tap.lx, tap.lx};
  for (int a = 0; a < 2; ++a)
    for (int b = 0; b < 2; ++b) {
      if (rows[a] && cols[b]) tap.corner[2 * a + b] = (image * d.H + y0 + a) * d.W + x0 + b;
      tap.weight[2 * a + b] = wy[a] * wx[b];
    }
  return tap;
}

// Calls body(sample, tap) for every tap of cell = (n*H + row)*W + col; sample = cell * K*K + t.
template <class Body>
void for_taps(const float* offsets, const float* mask, int64_t cell, const DeformDims& d, Body&& body) {
  const int64_t col = cell % d.W, row = cell / d.W % d.H, image = cell / (d.H * d.W);
  for (int kr = 0; kr < d.K; ++kr)
    for (int kc = 0; kc < d.K; ++kc) {
      const int64_t sample = (cell * d.K + kr) * d.K + kc;
      const float py = static_cast<float>(row - d.padding + kr) + offsets[2 * sample];
      const float px = static_cast<float>(col - d.padding + kc) + offsets[2 * sample + 1];
      Tap tap = tap_at(py, px, image, d);
      if (mask != nullptr) tap.mask = mask[sample];
      body(sample, tap);
    }
}

// A side of the map cuts two corners off, a corner of the map three.
template <MapType T>
void interpolate(const Tap& tap, const T* x, int64_t C, T* __restrict__ out) {
  const T* v[4] = {};
  float w[4] = {};
  int corners = 0;
  for (int k = 0; k < 4; ++k) {
    if (tap.corner[k] < 0) continue;
    v[corners] = x + tap.corner[k] * C;
    w[corners++] = tap.mask * tap.weight[k];
  }
  const T* __restrict__ v0 = v[0], * __restrict__ v1 = v[1], * __restrict__ v2 = v[2], * __restrict__ v3 = v[3];
  if (corners == 4)
    for (int64_t c = 0; c < C; ++c)
      out[c] = from_float<T>(w[0] * to_float(v0[c]) + w[1] * to_float(v1[c]) + w[2] * to_float(v2[c]) +
                             w[3] * to_float(v3[c]));
  else if (corners == 2)
    for (int64_t c = 0; c < C; ++c) out[c] = from_float<T>(w[0] * to_float(v0[c]) + w[1] * to_float(v1[c]));
  else if (corners == 1)
    for (int64_t c = 0; c < C; ++c) out[c] = from_float<T>(w[0] * to_float(v0[c]));
  else
    std::fill_n(out, C, T());
}

// The sample is v00 + ly (v10 - v00) + lx (v01 - v00) + ly lx (v11 - v01 - v10 + v00), so its derivatives are
//   d py = (v10 - v00) + lx (v11 - v01 - v10 + v00)        d px = (v01 - v00) + ly (v11 - v01 - v10 + v00).
// Three sums over channels, and that of v00 where the sample itself is wanted, the slope by its mask: each in eight
// interleaved parts, which vectorises, and the order is fixed.
template <bool kMasked>
struct SlopeSums {
  static constexpr int kLanes = 8;
  float y[kLanes] = {}, x[kLanes] = {}, both[kLanes] = {}, corner[kLanes] = {};

  // Adds kLanes channels that begin at grad[0] and v[corner][0].
  template <MapType T>
  void add(const T* grad, const T* v00, const T* v01, const T* v10, const T* v11) {
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const float g = to_float(grad[l]), dy = to_float(v10[l]) - to_float(v00[l]);
      y[l] += g * dy;
      x[l] += g * (to_float(v01[l]) - to_float(v00[l]));
      both[l] += g * ((to_float(v11[l]) - to_float(v01[l])) - dy);
      if constexpr (kMasked) corner[l] += g * to_float(v00[l]);
    }
  }
};

float total(const float* parts) {
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

struct Slopes {
  float y, x, mask;
};

template <bool kMasked, MapType T>
Slopes slopes_of(const Tap& tap, const T* x, const T* grad, int64_t C) {
  using Sums = SlopeSums<kMasked>;
  constexpr int kLanes = Sums::kLanes;
  if (!tap.inside) return {0, 0, 0};
  Sums sums;
  int64_t c = 0;
  if (tap.all_corners()) {
    const T *v00 = x + tap.corner[0] * C, *v01 = x + tap.corner[1] * C;
    const T *v10 = x + tap.corner[2] * C, *v11 = x + tap.corner[3] * C;
    Sums fast;  // its address never leaves this block, so that it lives in registers
    for (; c + kLanes <= C; c += kLanes) fast.add(grad + c, v00 + c, v01 + c, v10 + c, v11 + c);
    sums = fast;
  }
  // The border of the map, and channels that do not fill the lanes: copied next to zeros.
  for (; c < C; c += kLanes) {
    T g[kLanes] = {}, v[4][kLanes] = {};
    const int64_t count = std::min<int64_t>(kLanes, C - c);
    std::copy_n(grad + c, count, g);
    for (int k = 0; k < 4; ++k)
      if (tap.corner[k] >= 0) std::copy_n(x + tap.corner[k] * C + c, count, v[k]);
    sums.add(g, v[0], v[1], v[2], v[3]);
  }
  const float y = total(sums.y), along_x = total(sums.x), both = total(sums.both);
  Slopes slopes{y + tap.lx * both, along_x + tap.ly * both, 0};
  if constexpr (kMasked) {
    slopes.mask = total(sums.corner) + tap.ly * y + tap.lx * along_x + tap.ly * tap.lx * both;
    slopes.y *= tap.mask;
    slopes.x *= tap.mask;
  }
  return slopes;
}

constexpr int64_t kCellsPerTask = 64;

template <bool kMasked, MapType T>
void backward_points(Cpu& cpu, const DeformDims& d, View<const T> x, View<const float> offsets,
                     View<const T> grad_columns, const GradTarget<>& grad_offsets, const DeformMask& mask) {
  parallel_for(cpu, d.N * d.H * d.W, kCellsPerTask, [&](int64_t cell) {
    for_taps(offsets.data(), mask.values.data(), cell, d, [&](int64_t sample, const Tap& tap) {
      const Slopes g = slopes_of<kMasked>(tap, x.data(), grad_columns.data() + sample * d.C, d.C);
      float* out = grad_offsets.grad.data() + 2 * sample;
      out[0] = grad_offsets.adds() ? out[0] + g.y : g.y;
      out[1] = grad_offsets.adds() ? out[1] + g.x : g.x;
      if constexpr (kMasked) mask.grad[sample] = g.mask;
    });
  });
}

template <MapType T>
void backward_data(Cpu& cpu, const DeformDims& d, View<const float> offsets, View<const float> mask,
                   View<const T> grad_columns, const GradTarget<T>& grad_x) {
  if (grad_x.grad.size() == 0) return;
  // A task owns one image and a block of channels, and walks the cells in order: each sum has one order, whatever the
  // blocks are, so they may be as few as give every thread work.
  constexpr int64_t kCacheLine = 64 / sizeof(T);
  const int64_t blocks_wanted = chunk_count(cpu.threads(), d.N);
  const int64_t block = chunk_count(chunk_count(d.C, blocks_wanted), kCacheLine) * kCacheLine;
  const int64_t blocks = chunk_count(d.C, block);
  parallel_for(cpu, d.N * blocks, 1, [&](int64_t task) {
    const int64_t image = task / blocks, first = task % blocks * block;
    const int64_t channels = std::min(block, d.C - first);
    const int64_t begin = image * d.H * d.W, cells = d.H * d.W;
    T* out = grad_x.grad.data() + begin * d.C + first;  // of pixel 0; the next pixel's is C further
    // The sums are made in place in float, and beside it in bfloat16.
    std::vector<float> beside;
    float* sums = nullptr;
    int64_t stride = 0;
    if constexpr (std::same_as<T, float>) {
      sums = out;
      stride = d.C;
    } else {
      beside.resize(static_cast<size_t>(cells * channels));
      sums = beside.data();
      stride = channels;
      if (grad_x.adds())
        for (int64_t p = 0; p < cells; ++p)
          for (int64_t c = 0; c < channels; ++c) sums[p * stride + c] = to_float(out[p * d.C + c]);
    }
    if (!grad_x.adds())
      for (int64_t p = 0; p < cells; ++p) std::fill_n(sums + p * stride, channels, 0.0f);
    for (int64_t cell = begin; cell < begin + cells; ++cell)
      for_taps(offsets.data(), mask.data(), cell, d, [&](int64_t sample, const Tap& tap) {
        const T* __restrict__ grad = grad_columns.data() + sample * d.C + first;
        for (int k = 0; k < 4; ++k) {
          const float w = tap.mask * tap.weight[k];
          if (tap.corner[k] < 0 || w == 0) continue;
          float* __restrict__ sum = sums + (tap.corner[k] - begin) * stride;
          for (int64_t c = 0; c < channels; ++c) sum[c] += w * to_float(grad[c]);
        }
      });
    if constexpr (!std::same_as<T, float>)
      for (int64_t p = 0; p < cells; ++p)
        for (int64_t c = 0; c < channels; ++c) out[p * d.C + c] = from_float<T>(sums[p * stride + c]);
  });
}

}  // namespace

DeformDims deform_dims(const char* op, const Shape& x, const Shape& offsets, const Shape& columns, int kernel,
                       View<const float> mask) {
  require(kernel >= 1 && kernel % 2 == 1, op, "kernel is " + std::to_string(kernel) + ", expected an odd number");
  require(x.rank() == 4 && std::ranges::all_of(x.dims(), [](int64_t size) { return size >= 0 && size < INT32_MAX; }),
          op, "x has shape " + x.to_string() + ", expected (N, H, W, C), each below 2^31");
  const int64_t taps = int64_t{kernel} * kernel;
  const Shape expected_offsets{x[0], x[1], x[2], 2 * taps}, expected_columns{x[0], x[1], x[2], taps, x[3]};
  require(offsets == expected_offsets, op,
          "offsets have shape " + offsets.to_string() + ", expected " + expected_offsets.to_string());
  require(columns == expected_columns, op,
          "columns have shape " + columns.to_string() + ", expected " + expected_columns.to_string());
  if (mask.data() != nullptr) require_shape(op, "mask", mask, {x[0], x[1], x[2], taps});
  return {x[0], x[1], x[2], x[3], kernel, (kernel - 1) / 2};
}

template <MapType T>
void deform_im2col(Cpu& cpu, In<T> x, View<const float> offsets, int kernel, View<T> columns, View<const float> mask) {
  const DeformDims d = deform_dims("deform_im2col", x.shape(), offsets.shape(), columns.shape(), kernel, mask);
  parallel_for(cpu, d.N * d.H * d.W, kCellsPerTask, [&](int64_t cell) {
    for_taps(offsets.data(), mask.data(), cell, d,
             [&](int64_t sample, const Tap& tap) { interpolate(tap, x.data(), d.C, columns.data() + sample * d.C); });
  });
}

int64_t deform_im2col_workspace(const Shape& x, int kernel) {
  return 9 * x[0] * x[1] * x[2] * kernel * kernel + x[0] * (x[1] + 1) * (x[2] + 1) + 1;
}

template <MapType T>
void deform_im2col_backward(Cpu& cpu, In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                            const GradTarget<T>& grad_x, const GradTarget<>& grad_offsets, const DeformWorkspace&,
                            const DeformMask& mask) {
  const DeformDims d = deform_backward_dims<T>(x, offsets, grad_columns, kernel, grad_x, grad_offsets, mask);
  if (mask.values.data() == nullptr)
    backward_points<false, T>(cpu, d, x, offsets, grad_columns, grad_offsets, mask);
  else
    backward_points<true, T>(cpu, d, x, offsets, grad_columns, grad_offsets, mask);
  backward_data<T>(cpu, d, offsets, mask.values, grad_columns, grad_x);
}

template void deform_im2col(Cpu&, View<const float>, View<const float>, int, View<float>, View<const float>);
template void deform_im2col_backward(Cpu&, View<const float>, View<const float>, View<const float>, int,
                                     const GradTarget<float>&, const GradTarget<>&, const DeformWorkspace&,
                                     const DeformMask&);

template void deform_im2col(Cpu&, View<const bfloat16>, View<const float>, int, View<bfloat16>, View<const float>);
template void deform_im2col_backward(Cpu&, View<const bfloat16>, View<const float>, View<const bfloat16>, int,
                                     const GradTarget<bfloat16>&, const GradTarget<>&, const DeformWorkspace&,
                                     const DeformMask&);

}  // namespace gradlibra::kernels
