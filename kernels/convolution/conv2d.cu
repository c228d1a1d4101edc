// SPDX-License-Identifier: MIT
// Convolution on the GPU as one tiled matrix product over three ways to read the operands (implicit GEMM: the im2col
// matrix is never stored). Where cuDNN is missing it serves; with cuDNN it is the check.
//
//   forward          y[pixel, o]           = sum over (kr, kc, c)  x[pixel's tap, c]   * weight[o, kr, kc, c]
//   backward data    grad_x[pixel, c]      = sum over (kr, kc, o)  grad_y[cell, o]     * weight[o, kr, kc, c]
//   backward weight  grad_weight[o, k k c] = sum over (n, i, j)    grad_y[n, i, j, o]  * x[n, i's tap, c]
//
// A block owns a square tile of the output and walks the whole depth in steps through shared memory; a thread owns
// kMicro x kMicro elements, spaced 16 apart. Every element is one chain of additions in a fixed order, so no bits
// depend on the launch; the price is few blocks for the weight gradient of a small layer.
#include <algorithm>

#include "kernels/convolution/conv2d.h"
#include "kernels/divide.cuh"
#include "kernels/launch.h"

namespace gradlibra::kernels {

namespace {

constexpr int kThreads = 16;             // along each side of a block
constexpr int kDepth = 16;               // depth of one step
constexpr int64_t kMaxBlocks = 1 << 20;  // more tiles than that: a block takes several

struct Pixel {
  int64_t n;
  int row, col;
};

__device__ Pixel pixel_at(int64_t index, int height, int width) {
  const int64_t line = divide(index, width), n = divide(line, height);
  return {n, static_cast<int>(line - n * height), static_cast<int>(index - line * width)};
}

// Position of element d of a depth (kernel row, kernel column, channel).
struct KernelTap {
  int row, col, channel;
};

__device__ KernelTap kernel_tap(int64_t d, int kernel_width, int channels) {
  const int64_t tap = divide(d, channels);
  const int row = static_cast<int>(tap) / kernel_width;
  return {row, static_cast<int>(tap) - row * kernel_width, static_cast<int>(d - tap * channels)};
}

// x at the place where output cell (row, col) reads through a tap; 0 outside the map.
__device__ float read_tap(const float* x, const ConvDims& s, const Pixel& cell, const KernelTap& tap) {
  const int64_t h = int64_t{cell.row} * s.stride - s.padding + int64_t{tap.row} * s.dilation;
  const int64_t w = int64_t{cell.col} * s.stride - s.padding + int64_t{tap.col} * s.dilation;
  if (h < 0 || h >= s.H || w < 0 || w >= s.W) return 0;
  return x[((cell.n * s.H + h) * s.W + w) * s.C + tap.channel];
}

// What the tiled product needs of a problem: sizes, elements a(row, depth) and b(depth, column), and where a sum goes.
// kDepthFirst: neighbours along the depth are neighbours in memory, so threads that load side by side go along it.
struct Forward {
  static constexpr bool kDepthFirstA = true, kDepthFirstB = true;
  const float *x, *weight, *bias;
  float* y;
  ConvDims s;
  int64_t rows, cols, depth;

  __device__ float a(int64_t row, int64_t d) const {
    return read_tap(x, s, pixel_at(row, static_cast<int>(s.P), static_cast<int>(s.Q)),
                    kernel_tap(d, static_cast<int>(s.S), static_cast<int>(s.C)));
  }
  __device__ float b(int64_t d, int64_t col) const { return weight[col * depth + d]; }
  __device__ float initial(int64_t col) const { return bias == nullptr ? 0.0f : bias[col]; }
  __device__ void store(int64_t row, int64_t col, float sum) const { y[row * cols + col] = sum; }
};

struct BackwardData {
  static constexpr bool kDepthFirstA = true, kDepthFirstB = false;
  const float *grad_y, *weight;
  float* grad_x;
  ConvDims s;
  bool add;
  int64_t rows, cols, depth;

  // Output cell (i, j) reads this pixel through the tap if i * stride = h + padding - kr * dilation, and so for j.
  __device__ float a(int64_t row, int64_t d) const {
    const Pixel pixel = pixel_at(row, static_cast<int>(s.H), static_cast<int>(s.W));
    const KernelTap tap = kernel_tap(d, static_cast<int>(s.S), static_cast<int>(s.K));
    const int64_t i = int64_t{pixel.row} + s.padding - int64_t{tap.row} * s.dilation;
    const int64_t j = int64_t{pixel.col} + s.padding - int64_t{tap.col} * s.dilation;
    if (i < 0 || j < 0) return 0;
    const int64_t p = divide(i, s.stride), q = divide(j, s.stride);
    if (p * s.stride != i || q * s.stride != j || p >= s.P || q >= s.Q) return 0;
    return grad_y[((pixel.n * s.P + p) * s.Q + q) * s.K + tap.channel];
  }
  __device__ float b(int64_t d, int64_t col) const {
    const KernelTap tap = kernel_tap(d, static_cast<int>(s.S), static_cast<int>(s.K));
    return weight[((tap.channel * s.R + tap.row) * s.S + tap.col) * s.C + col];
  }
  __device__ float initial(int64_t) const { return 0; }
  __device__ void store(int64_t row, int64_t col, float sum) const {
    float& out = grad_x[row * cols + col];
    out = add ? out + sum : sum;
  }
};

struct BackwardWeight {
  static constexpr bool kDepthFirstA = false, kDepthFirstB = false;
  const float *x, *grad_y;
  float* grad_weight;
  ConvDims s;
  bool add;
  int64_t rows, cols, depth;

  __device__ float a(int64_t row, int64_t d) const { return grad_y[d * s.K + row]; }
  __device__ float b(int64_t d, int64_t col) const {
    return read_tap(x, s, pixel_at(d, static_cast<int>(s.P), static_cast<int>(s.Q)),
                    kernel_tap(col, static_cast<int>(s.S), static_cast<int>(s.C)));
  }
  __device__ float initial(int64_t) const { return 0; }
  __device__ void store(int64_t row, int64_t col, float sum) const {
    float& out = grad_weight[row * cols + col];
    out = add ? out + sum : sum;
  }
};

template <class Problem, int kMicro>
__global__ void tiled_product_kernel(const Problem problem) {
  constexpr int kTile = kThreads * kMicro;
  constexpr int kLoads = kTile * kDepth / (kThreads * kThreads);
  // One column more than needed: threads that go along the depth then write to different banks.
  __shared__ float tile_a[kDepth][kTile + 1];
  __shared__ float tile_b[kDepth][kTile + 1];
  const int tx = threadIdx.x, ty = threadIdx.y, thread = ty * kThreads + tx;

  const int64_t tile_cols = (problem.cols + kTile - 1) / kTile;
  const int64_t tiles = (problem.rows + kTile - 1) / kTile * tile_cols;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t first_row = tile / tile_cols * kTile, first_col = tile % tile_cols * kTile;
    float sum[kMicro][kMicro];
    for (int v = 0; v < kMicro; ++v) {
      const int64_t col = first_col + tx + v * kThreads;
      const float initial = col < problem.cols ? problem.initial(col) : 0.0f;
      for (int u = 0; u < kMicro; ++u) sum[u][v] = initial;
    }

    for (int64_t first_depth = 0; first_depth < problem.depth; first_depth += kDepth) {
#pragma unroll
      for (int load = 0; load < kLoads; ++load) {
        const int i = load * kThreads * kThreads + thread;
        const int da = Problem::kDepthFirstA ? i % kDepth : i / kTile,
                  ra = Problem::kDepthFirstA ? i / kDepth : i % kTile;
        const int db = Problem::kDepthFirstB ? i % kDepth : i / kTile,
                  cb = Problem::kDepthFirstB ? i / kDepth : i % kTile;
        const bool in_a = first_row + ra < problem.rows && first_depth + da < problem.depth;
        const bool in_b = first_col + cb < problem.cols && first_depth + db < problem.depth;
        tile_a[da][ra] = in_a ? problem.a(first_row + ra, first_depth + da) : 0.0f;
        tile_b[db][cb] = in_b ? problem.b(first_depth + db, first_col + cb) : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        float a[kMicro], b[kMicro];
        for (int u = 0; u < kMicro; ++u) a[u] = tile_a[d][ty + u * kThreads];
        for (int v = 0; v < kMicro; ++v) b[v] = tile_b[d][tx + v * kThreads];
        for (int u = 0; u < kMicro; ++u)
          for (int v = 0; v < kMicro; ++v) sum[u][v] += a[u] * b[v];
      }
      __syncthreads();
    }

    for (int u = 0; u < kMicro; ++u)
      for (int v = 0; v < kMicro; ++v) {
        const int64_t row = first_row + ty + u * kThreads, col = first_col + tx + v * kThreads;
        if (row < problem.rows && col < problem.cols) problem.store(row, col, sum[u][v]);
      }
  }
}

template <int kMicro, class Problem>
void tiled_product(Cuda& cuda, const Problem& problem) {
  constexpr int kTile = kThreads * kMicro;
  const int64_t tiles = ((problem.rows + kTile - 1) / kTile) * ((problem.cols + kTile - 1) / kTile);
  if (tiles == 0) return;
  launch(tiled_product_kernel<Problem, kMicro>, dim3(static_cast<unsigned>(std::min(tiles, kMaxBlocks))),
         dim3(kThreads, kThreads), 0, cuda.stream(), problem);
}

}  // namespace

void conv2d(Cuda& cuda, View<const float> x, View<const float> weight, View<const float> bias, const ConvShape& shape,
            View<float> y) {
  const ConvDims s = conv_dims("conv2d", x.shape(), weight.shape(), y.shape(), shape);
  if (bias.data() != nullptr) require_shape("conv2d", "bias", bias, {s.K});
  tiled_product<4>(cuda, Forward{.x = x.data(),
                                 .weight = weight.data(),
                                 .bias = bias.data(),
                                 .y = y.data(),
                                 .s = s,
                                 .rows = s.N * s.P * s.Q,
                                 .cols = s.K,
                                 .depth = s.R * s.S * s.C});
}

void conv2d_backward_data(Cuda& cuda, View<const float> grad_y, View<const float> weight, const ConvShape& shape,
                          View<float> grad_x, Accumulate mode) {
  const ConvDims s = conv_dims("conv2d_backward_data", grad_x.shape(), weight.shape(), grad_y.shape(), shape);
  tiled_product<4>(cuda, BackwardData{.grad_y = grad_y.data(),
                                      .weight = weight.data(),
                                      .grad_x = grad_x.data(),
                                      .s = s,
                                      .add = mode == Accumulate::add,
                                      .rows = s.N * s.H * s.W,
                                      .cols = s.C,
                                      .depth = s.R * s.S * s.K});
}

void conv2d_backward_weight(Cuda& cuda, View<const float> x, View<const float> grad_y, const ConvShape& shape,
                            View<float> grad_weight, Accumulate mode) {
  const ConvDims s = conv_dims("conv2d_backward_weight", x.shape(), grad_weight.shape(), grad_y.shape(), shape);
  // Few outputs and a long depth: smaller tiles, four times as many blocks.
  tiled_product<2>(cuda, BackwardWeight{.x = x.data(),
                                        .grad_y = grad_y.data(),
                                        .grad_weight = grad_weight.data(),
                                        .s = s,
                                        .add = mode == Accumulate::add,
                                        .rows = s.K,
                                        .cols = s.R * s.S * s.C,
                                        .depth = s.N * s.P * s.Q});
}

}  // namespace gradlibra::kernels
