// SPDX-License-Identifier: MIT
// Deformable convolution on tensor cores: an implicit matrix product.
//
//   rows: output pixels     columns: outputs o     depth: taps t, and within a tap its channels c
//
// A block computes a tile of kPixels x kOutputs and walks along the depth in steps of kDepth channels of one tap. Per
// step it needs kPixels x kDepth samples (made here, from four corners each) and kOutputs x kDepth weights, both in
// shared memory, in two copies: while the tensor cores multiply this step, the next one's weights are copied and its
// samples made. Every sample is made once if O <= kOutputs; for that the tile is wide, and only one block fits a
// multiprocessor at a time.
//
// The eight warps share the tile as 2 x 4 pieces of kWarpPixels x kWarpOutputs. A piece's sums fill 128 registers of
// each thread, but it reads just 128 rows of shared memory for its 64 x 64 products: with smaller pieces shared memory
// would be what the tensor cores wait for.
#include "kernels/convolution/deform_conv2d.h"

#include "kernels/convolution/sample_position.cuh"
#include "kernels/convolution/tensor_core.cuh"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

using namespace deform;

constexpr int kPixels = 128, kOutputs = 256, kDepth = 32;
constexpr int kWarpPixels = 64, kWarpOutputs = 64;
constexpr int kMmaPixels = 16, kMmaOutputs = 8, kMmaDepth = 16;  // of one mma_bf16
constexpr int kParts = kDepth / kMmaDepth;                       // of a step
constexpr int kChunk = 8;                                        // channels that a thread moves at a time: 16 bytes
constexpr int kChunks = kDepth / kChunk;                         // in a row of shared memory
constexpr int kRows = kBlock / kChunks;  // filled at a time, a chunk by each thread of the block
static_assert((kPixels / kWarpPixels) * (kOutputs / kWarpOutputs) * 32 == kBlock);
static_assert(kPixels / kRows == kParts, "a thread makes one chunk of samples beside each part of a product");

struct Layer {
  Sizes s;
  int64_t pixels;  // N*H*W
  int outputs;
  bool relu;
  bool pairs;  // of outputs begin at multiples of four bytes in every row of y
};

// Where a chunk of a row lies. A row has 64 bytes, and all banks together are 128 bytes wide: one chunk of eight rows,
// which ldmatrix reads at once, would lie in two columns of banks, four rows in each. Exclusive-or with half the row
// number spreads it over all eight.
//   row 0:  c0 c1 c2 c3   row 1:  c0 c1 c2 c3
//   row 2:  c1 c0 c3 c2   row 3:  c1 c0 c3 c2
//   row 4:  c2 c3 c0 c1   row 5:  c2 c3 c0 c1
//   row 6:  c3 c2 c1 c0   row 7:  c3 c2 c1 c0
__device__ int place(int row, int chunk) { return row * kChunks + (chunk ^ (row / 2 % kChunks)); }

// The depth in steps: tap (kr, kc), channels c to c + kDepth; `at` is where they begin in a weight's row. Where C is no
// multiple of kDepth, a tap's last step is filled up with zeros.
struct Step {
  int kr = 0, kc = 0, c = 0;
  int64_t at = 0;
  __device__ void advance(const Sizes& s) {
    at += kDepth;
    c += kDepth;
    if (c < s.C) return;
    at -= c - s.C;
    c = 0;
    if (++kc < s.K) return;
    kc = 0;
    ++kr;
  }
};

// A thread's share of a step: the same chunk of rows row, row + kRows, ... of the samples and of the weights.
struct Share {
  int row = static_cast<int>(threadIdx.x) / kChunks, chunk = static_cast<int>(threadIdx.x) % kChunks;
};

// Makes a thread's share of the samples. What belongs to a tap stays in registers while its channels pass.
class Sampler {
 public:
  __device__ Sampler(const bfloat16* x, const float* offsets, int64_t first_pixel, const Layer& layer)
      : x_(x), offsets_(offsets), first_(first_pixel + mine_.row), layer_(layer) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) cells_[i] = cell_at(first_ + i * kRows, layer.s);
  }

  // The four threads of a pixel all work its position out: once per tap, and nothing has to be exchanged.
  __device__ void move_to_tap(int kr, int kc) {
    const Sizes& s = layer_.s;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int64_t pixel = first_ + i * kRows;
      Position p;
      if (pixel < layer_.pixels) p = position_of(cells_[i], kr, kc, offsets_ + 2 * ((pixel * s.K + kr) * s.K + kc), s);
      Square& square = squares_[i];
      square.first = ((p.n * s.H + p.y0) * s.W + p.x0) * s.C + mine_.chunk * kChunk;
      square.there = 0;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int a = k / 2, b = k % 2, y = p.y0 + a, x = p.x0 + b;
        if (p.inside && y >= 0 && y < s.H && x >= 0 && x < s.W) square.there |= 1u << k;
        square.weight[k] = p.weight(a, b);
      }
    }
  }
  // Loads the corners of sample i; blend() makes it of them. Between the two the loads are on their way.
  __device__ void begin(int i, int c) {
    const Sizes& s = layer_.s;
    const int64_t first = squares_[i].first + c;
    const unsigned there = c + mine_.chunk * kChunk < s.C ? squares_[i].there : 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t from = first + (k / 2 * int64_t{s.W} + k % 2) * s.C;
      corners_[k] = (there >> k & 1u) != 0 ? __ldg(reinterpret_cast<const uint4*>(x_ + from)) : uint4{};
    }
  }
  // In float, corner by corner as deform_im2col does, and rounded.
  __device__ void blend(int i, uint4* samples) const {
    Pack<kChunk> sum{};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const unsigned words[4] = {corners_[k].x, corners_[k].y, corners_[k].z, corners_[k].w};
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        sum[2 * l] += squares_[i].weight[k] * __uint_as_float(words[l] << 16);
        sum[2 * l + 1] += squares_[i].weight[k] * __uint_as_float(words[l] & 0xffff0000u);
      }
    }
    store<kChunk>(reinterpret_cast<bfloat16*>(samples + place(mine_.row + i * kRows, mine_.chunk)), sum);
  }

 private:
  // The four pixels around a position.
  struct Square {
    int64_t first;  // where this thread's chunk of pixel (y0, x0) lies in x at c = 0; that pixel may be outside the map
    unsigned there;  // bit k: corner k is inside
    float weight[4];
  };
  Share mine_;
  const bfloat16* x_;
  const float* offsets_;
  int64_t first_;
  const Layer& layer_;
  Cell<int64_t> cells_[kParts];
  Square squares_[kParts];
  uint4 corners_[4];
};

__device__ void begin_weights(const bfloat16* __restrict__ weight, int first_output, const Step& step,
                              const Layer& layer, uint4* weights) {
  const Share mine;
  const Sizes& s = layer.s;
  const bool inside = step.c + mine.chunk * kChunk < s.C;
  const int64_t depth = int64_t{s.K} * s.K * s.C;
  const int64_t from = (first_output + mine.row) * depth + step.at + mine.chunk * kChunk;
#pragma unroll
  for (int i = 0; i < kOutputs / kRows; ++i)
    begin_copy(weights + place(mine.row + i * kRows, mine.chunk), weight + (from + i * kRows * depth),
               inside && first_output + mine.row + i * kRows < layer.outputs);
}

// The sums of a warp's piece, as mma_bf16 spreads them over its lanes.
struct Sums {
  float at[kWarpPixels / kMmaPixels][kWarpOutputs / kMmaOutputs][4];
};

// Adds channels part * kMmaDepth to (part + 1) * kMmaDepth of a step. row and column: where the warp's piece begins in
// the tile.
__device__ void multiply(const uint4* samples, const uint4* weights, int row, int column, int part, Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, chunk = part * (kMmaDepth / kChunk);
  // Which row of which matrix a lane points at. Of the samples a matrix has pixels 0-7, 8-15, 0-7, 8-15 and channels
  // 0-7, 0-7, 8-15, 8-15: the four registers of `a`. Weights, [o][c] in memory, are already b's columns: outputs 0-7,
  // 0-7, 8-15, 8-15 and channels 0-7, 8-15, 0-7, 8-15 are the two registers of two b's. Sixteen rows on, place() only
  // moves on: its swizzle repeats.
  const uint4* of_samples = samples + place(row + lane % 16, chunk + lane / 16);
  const uint4* of_weights = weights + place(column + lane % 8 + lane / 16 * 8, chunk + lane / 8 % 2);
  unsigned a[kWarpPixels / kMmaPixels][4];
#pragma unroll
  for (int m = 0; m < kWarpPixels / kMmaPixels; ++m) load_matrices(a[m], of_samples + m * kMmaPixels * kChunks);
#pragma unroll
  for (int n = 0; n < kWarpOutputs / kMmaOutputs; n += 2) {
    unsigned b[4];
    load_matrices(b, of_weights + n * kMmaOutputs * kChunks);
    const unsigned left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
    for (int m = 0; m < kWarpPixels / kMmaPixels; ++m) {
      mma_bf16(sums.at[m][n], a[m], left);
      mma_bf16(sums.at[m][n + 1], a[m], right);
    }
  }
}

// Not fmaxf: NaN stays NaN.
__device__ float activate(float v, bool relu) { return relu && v < 0 ? 0 : v; }

// `pairs`: two neighbouring outputs are four bytes that lie right for one store.
template <bool pairs>
__device__ void store_sums(const Sums& sums, int64_t first_pixel, int first_output, const Layer& layer,
                           bfloat16* __restrict__ y) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, q = lane % 4;
#pragma unroll
  for (int m = 0; m < kWarpPixels / kMmaPixels; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t pixel = first_pixel + m * kMmaPixels + half * 8 + g;
      if (pixel >= layer.pixels) continue;
      bfloat16* row = y + pixel * layer.outputs;
#pragma unroll
      for (int n = 0; n < kWarpOutputs / kMmaOutputs; ++n) {
        const int o = first_output + n * kMmaOutputs + 2 * q;
        const float left = activate(sums.at[m][n][2 * half], layer.relu);
        const float right = activate(sums.at[m][n][2 * half + 1], layer.relu);
        if constexpr (pairs) {
          if (o < layer.outputs) *reinterpret_cast<unsigned*>(row + o) = pack_bfloat16(left, right);
        } else {
          if (o < layer.outputs) row[o] = to_bfloat16(left);
          if (o + 1 < layer.outputs) row[o + 1] = to_bfloat16(right);
        }
      }
    }
}

__global__ void __launch_bounds__(kBlock, 1)
    deform_conv2d_kernel(const bfloat16* __restrict__ x, const float* __restrict__ offsets,
                         const bfloat16* __restrict__ weight, bfloat16* __restrict__ y, const Layer layer) {
  // 48 KiB, all that is to be had without asking.
  __shared__ uint4 samples[2][kPixels * kChunks], weights[2][kOutputs * kChunks];
  const int64_t first_pixel = int64_t{blockIdx.x} * kPixels;
  const int first_output = static_cast<int>(blockIdx.y) * kOutputs;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp % (kPixels / kWarpPixels) * kWarpPixels, column = warp / (kPixels / kWarpPixels) * kWarpOutputs;
  const bool idle = first_pixel + row >= layer.pixels || first_output + column >= layer.outputs;

  Sampler sampler(x, offsets, first_pixel, layer);
  Step step;
  begin_weights(weight, first_output, step, layer, weights[0]);
  sampler.move_to_tap(0, 0);
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    sampler.begin(part, 0);
    sampler.blend(part, samples[0]);
  }
  wait_for_copies();
  __syncthreads();

  Sums sums = {};
  const int steps = layer.s.K * layer.s.K * ((layer.s.C + kDepth - 1) / kDepth);
  for (int k = 0; k < steps; ++k) {
    const int now = k % 2, next = 1 - now;
    const bool more = k + 1 < steps;
    if (more) {
      step.advance(layer.s);
      if (step.c == 0) sampler.move_to_tap(step.kr, step.kc);
      begin_weights(weight, first_output, step, layer, weights[next]);
    }
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      if (more) sampler.begin(part, step.c);
      if (!idle) multiply(samples[now], weights[now], row, column, part, sums);
      if (more) sampler.blend(part, samples[next]);
    }
    // Behind this barrier the next step is complete, and nobody reads this one's memory any more.
    wait_for_copies();
    __syncthreads();
  }
  if (idle) return;
  if (layer.pairs)
    store_sums<true>(sums, first_pixel + row, first_output + column, layer, y);
  else
    store_sums<false>(sums, first_pixel + row, first_output + column, layer, y);
}

}  // namespace

void deform_conv2d(Cuda& cuda, View<const bfloat16> x, View<const float> offsets, View<const bfloat16> weight,
                   int kernel, Activation activation, View<bfloat16> y) {
  const DeformDims d = deform_conv2d_dims(x.shape(), offsets.shape(), weight.shape(), kernel, y.shape());
  require(aligned(x.data(), weight.data()), "deform_conv2d", "x and weight must be aligned to 16 bytes");
  if (y.size() == 0) return;
  const int64_t pixels = d.N * d.H * d.W, outputs = weight.dim(0);
  const Layer layer{sizes(d), pixels, static_cast<int>(outputs), activation == Activation::relu,
                    outputs % 2 == 0 && aligned<4>(y.data())};
  launch(deform_conv2d_kernel, dim3(blocks_for(pixels, kPixels), blocks_for(outputs, kOutputs)), kBlock, 0,
         cuda.stream(), x.data(), offsets.data(), weight.data(), y.data(), layer);
}

}  // namespace gradlibra::kernels
