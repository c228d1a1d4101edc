// SPDX-License-Identifier: MIT
// Convolution on the host: three loop nests around one block product of four rows by eight lanes.
#include "kernels/convolution/conv2d.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

constexpr int kRows = 4;   // rows of a block: pixels, or output channels in the weight gradient
constexpr int kLanes = 8;  // channels of a block, contiguous in memory: one or two vector registers

// sum[p][l] += a[p][d * a_step] * b[d * b_step + l] for d = 0, 1, .., depth - 1 in this order.
template <int P, int L>
void multiply_add(const float* const* a, int64_t a_step, const float* b, int64_t b_step, int64_t depth, float* sum) {
  float s[P][L];
  for (int p = 0; p < P; ++p)
    for (int l = 0; l < L; ++l) s[p][l] = sum[p * kLanes + l];
  for (int64_t d = 0; d < depth; ++d, b += b_step)
    for (int p = 0; p < P; ++p) {
      const float factor = a[p][d * a_step];
      for (int l = 0; l < L; ++l) s[p][l] += factor * b[l];
    }
  for (int p = 0; p < P; ++p)
    for (int l = 0; l < L; ++l) sum[p * kLanes + l] = s[p][l];
}

// The same where some rows have nothing to add (nullptr: the tap lies outside the map).
template <int L>
void multiply_add_rows(const float* const* a, int64_t a_step, const float* b, int64_t b_step, int64_t depth,
                       float* sum) {
  if (std::all_of(a, a + kRows, [](const float* row) { return row != nullptr; })) {
    multiply_add<kRows, L>(a, a_step, b, b_step, depth, sum);
    return;
  }
  for (int p = 0; p < kRows; ++p)
    if (a[p] != nullptr) multiply_add<1, L>(a + p, a_step, b, b_step, depth, sum + p * kLanes);
}

// Calls body(first lane, number of lanes) for blocks of kLanes channels, then for single channels.
template <class Body>
void for_lanes(int64_t channels, Body&& body) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(c, std::integral_constant<int, kLanes>());
  for (; c < channels; ++c) body(c, std::integral_constant<int, 1>());
}

// Weights (K, R, S, C) as (K / kLanes, R, S, C, kLanes): eight output channels side by side, the last block filled up
// with 0.
std::vector<float> output_channels_last(const float* weight, int64_t K, int64_t taps_times_c) {
  const int64_t blocks = chunk_count(K, kLanes);
  std::vector<float> packed(static_cast<size_t>(blocks * taps_times_c * kLanes));
  for (int64_t o = 0; o < K; ++o) {
    float* block = packed.data() + o / kLanes * taps_times_c * kLanes + o % kLanes;
    for (int64_t d = 0; d < taps_times_c; ++d) block[d * kLanes] = weight[o * taps_times_c + d];
  }
  return packed;
}

struct Pixel {
  int64_t n, row, col;
};

Pixel pixel_at(int64_t index, int64_t height, int64_t width) {
  return {index / (height * width), index / width % height, index % width};
}

}  // namespace

ConvDims conv_dims(const char* op, const Shape& x, const Shape& weight, const Shape& y, const ConvShape& s) {
  const std::string shapes = "x " + x.to_string() + ", weight " + weight.to_string() + ", y " + y.to_string();
  require(x.rank() == 4 && weight.rank() == 4 && y.rank() == 4, op, shapes + ": four dimensions each are needed");
  const auto fits_int = [](const Shape& shape) {
    return std::ranges::all_of(shape.dims(), [](int64_t size) { return size >= 0 && size < INT32_MAX; });
  };
  require(fits_int(x) && fits_int(weight) && fits_int(y), op, shapes + ": every dimension stays below 2^31");
  require(x[3] == weight[3], op,
          "x has " + std::to_string(x[3]) + " channels, weight expects " + std::to_string(weight[3]));
  require(s.stride >= 1 && s.padding >= 0 && s.dilation >= 1, op,
          "stride " + std::to_string(s.stride) + ", padding " + std::to_string(s.padding) + ", dilation " +
              std::to_string(s.dilation) + ": stride and dilation start at 1, padding at 0");
  const auto fits = [&](int64_t size, int64_t kernel) {
    return kernel >= 1 && size + 2 * s.padding >= s.dilation * (kernel - 1) + 1;
  };
  require(fits(x[1], weight[1]) && fits(x[2], weight[2]), op, shapes + ": the kernel is larger than the padded map");
  const ConvDims d{x[0],
                   x[1],
                   x[2],
                   x[3],
                   weight[0],
                   weight[1],
                   weight[2],
                   conv_size(x[1], weight[1], s),
                   conv_size(x[2], weight[2], s),
                   s.stride,
                   s.padding,
                   s.dilation};
  const Shape expected{d.N, d.P, d.Q, d.K};
  require(y == expected, op, shapes + ": y should be " + expected.to_string());
  return d;
}

void conv2d(Cpu& cpu, View<const float> x, View<const float> weight, View<const float> bias, const ConvShape& shape,
            View<float> y) {
  const ConvDims d = conv_dims("conv2d", x.shape(), weight.shape(), y.shape(), shape);
  if (bias.data() != nullptr) require_shape("conv2d", "bias", bias, {d.K});
  const int64_t depth = d.R * d.S * d.C;
  const std::vector<float> packed = output_channels_last(weight.data(), d.K, depth);

  constexpr int64_t kPixelsPerTask = 32;
  parallel_chunks(cpu, d.N * d.P * d.Q, kPixelsPerTask, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t o = 0; o < d.K; o += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, d.K - o));
      const float* block = packed.data() + o * depth;
      for (int64_t first = begin; first < end; first += kRows) {
        const int rows = static_cast<int>(std::min<int64_t>(kRows, end - first));
        float sum[kRows * kLanes] = {};
        if (bias.data() != nullptr)
          for (int p = 0; p < rows; ++p) std::copy_n(bias.data() + o, lanes, sum + p * kLanes);
        Pixel pixels[kRows] = {};
        for (int p = 0; p < rows; ++p) pixels[p] = pixel_at(first + p, d.P, d.Q);
        for (int64_t kr = 0; kr < d.R; ++kr)
          for (int64_t kc = 0; kc < d.S; ++kc) {
            const float* taps[kRows] = {};
            for (int p = 0; p < rows; ++p) {
              const auto [n, i, j] = pixels[p];
              const int64_t h = i * d.stride - d.padding + kr * d.dilation;
              const int64_t w = j * d.stride - d.padding + kc * d.dilation;
              if (h >= 0 && h < d.H && w >= 0 && w < d.W) taps[p] = x.data() + ((n * d.H + h) * d.W + w) * d.C;
            }
            multiply_add_rows<kLanes>(taps, 1, block + (kr * d.S + kc) * d.C * kLanes, kLanes, d.C, sum);
          }
        for (int p = 0; p < rows; ++p) std::copy_n(sum + p * kLanes, lanes, y.data() + (first + p) * d.K + o);
      }
    }
  });
}

void conv2d_backward_data(Cpu& cpu, View<const float> grad_y, View<const float> weight, const ConvShape& shape,
                          View<float> grad_x, Accumulate mode) {
  const ConvDims d = conv_dims("conv2d_backward_data", grad_x.shape(), weight.shape(), grad_y.shape(), shape);
  constexpr int64_t kPixelsPerTask = 32;
  parallel_chunks(cpu, d.N * d.H * d.W, kPixelsPerTask, [&](int64_t, int64_t begin, int64_t end) {
    for_lanes(d.C, [&](int64_t c, auto lanes) {
      for (int64_t first = begin; first < end; first += kRows) {
        const int rows = static_cast<int>(std::min<int64_t>(kRows, end - first));
        float sum[kRows * kLanes] = {};
        Pixel pixels[kRows] = {};
        for (int p = 0; p < rows; ++p) pixels[p] = pixel_at(first + p, d.H, d.W);
        for (int64_t kr = 0; kr < d.R; ++kr)
          for (int64_t kc = 0; kc < d.S; ++kc) {
            // Output cell (i, j) reads input (h, w) through this tap if i * stride = h + padding - kr * dilation.
            const float* taps[kRows] = {};
            for (int p = 0; p < rows; ++p) {
              const auto [n, h, w] = pixels[p];
              const int64_t i = h + d.padding - kr * d.dilation;
              const int64_t j = w + d.padding - kc * d.dilation;
              if (i < 0 || j < 0 || i % d.stride != 0 || j % d.stride != 0) continue;
              if (i / d.stride >= d.P || j / d.stride >= d.Q) continue;
              taps[p] = grad_y.data() + ((n * d.P + i / d.stride) * d.Q + j / d.stride) * d.K;
            }
            multiply_add_rows<lanes>(taps, 1, weight.data() + (kr * d.S + kc) * d.C + c, d.R * d.S * d.C, d.K, sum);
          }
        for (int p = 0; p < rows; ++p) {
          float* out = grad_x.data() + (first + p) * d.C + c;
          for (int l = 0; l < lanes; ++l) out[l] = (mode == Accumulate::add ? out[l] : 0.0f) + sum[p * kLanes + l];
        }
      }
    });
  });
}

void conv2d_backward_weight(Cpu& cpu, View<const float> x, View<const float> grad_y, const ConvShape& shape,
                            View<float> grad_weight, Accumulate mode) {
  const ConvDims d = conv_dims("conv2d_backward_weight", x.shape(), grad_weight.shape(), grad_y.shape(), shape);
  // Outputs [first, end) of 0 <= o * stride + shift < size.
  const auto valid = [&](int64_t shift, int64_t size, int64_t outputs) {
    const int64_t first = shift >= 0 ? 0 : chunk_count(-shift, d.stride);
    const int64_t end = size > shift ? chunk_count(size - shift, d.stride) : 0;
    return std::pair(first, std::max(first, std::min(end, outputs)));
  };
  // A task owns four output channels of one kernel row.
  parallel_for(cpu, chunk_count(d.K, kRows) * d.R, 1, [&](int64_t task) {
    const int64_t kr = task % d.R, o = task / d.R * kRows;
    const int rows = static_cast<int>(std::min<int64_t>(kRows, d.K - o));
    const int64_t top = kr * d.dilation - d.padding;
    const auto [i_first, i_end] = valid(top, d.H, d.P);
    for (int64_t kc = 0; kc < d.S; ++kc) {
      const int64_t left = kc * d.dilation - d.padding;
      const auto [j_first, j_end] = valid(left, d.W, d.Q);
      for_lanes(d.C, [&, i_begin = i_first, i_stop = i_end, j = j_first, j_stop = j_end](int64_t c, auto lanes) {
        float sum[kRows * kLanes] = {};
        for (int64_t n = 0; n < d.N; ++n)
          for (int64_t i = i_begin; i < i_stop; ++i) {
            const float* upstream = grad_y.data() + ((n * d.P + i) * d.Q + j) * d.K + o;
            const float* input = x.data() + ((n * d.H + i * d.stride + top) * d.W + j * d.stride + left) * d.C + c;
            const float* grads[kRows] = {};
            for (int p = 0; p < rows; ++p) grads[p] = upstream + p;
            multiply_add_rows<lanes>(grads, d.K, input, d.stride * d.C, j_stop - j, sum);
          }
        for (int p = 0; p < rows; ++p) {
          float* out = grad_weight.data() + (((o + p) * d.R + kr) * d.S + kc) * d.C + c;
          for (int l = 0; l < lanes; ++l) out[l] = (mode == Accumulate::add ? out[l] : 0.0f) + sum[p * kLanes + l];
        }
      });
    }
  });
}

}  // namespace gradlibra::kernels
