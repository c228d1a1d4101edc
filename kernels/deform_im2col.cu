// SPDX-License-Identifier: MIT
// Deformable columns on the GPU. A block takes one cell at a time (grid-stride), a warp one tap of it, its lanes the
// channels: reads and writes of x and columns are coalesced, and position and weights are worked out once per tap.
#include <algorithm>
#include <cmath>

#include "kernels/deform_im2col.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

namespace {

constexpr int kWarp = 32;
constexpr int kMaxWarps = 9;             // one per tap of the usual 3 x 3 kernel
constexpr int64_t kMaxBlocks = 1 << 13;  // several times what a device runs at once; more cells: a block takes several
constexpr int kFlatBlock = 256;          // threads of the kernels that go over a flat array
constexpr int64_t kMaxFlatBlocks = 2048;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kInfinityBits = 0x7f800000u;

// The kernel's copy of the sizes; a side fits int, a product may not.
struct Sizes {
  int64_t cells;
  int H, W, C, K, padding;
};

struct Cell {
  int64_t n;
  int row, col;
};

// 64-bit division takes about 100 instructions, and nearly every index fits 32 bits.
__device__ int64_t divide(int64_t a, int b) {
  return a >> 32 == 0 ? static_cast<int64_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b)) : a / b;
}

__device__ Cell cell_at(int64_t index, const Sizes& s) {
  const int64_t line = divide(index, s.W), n = divide(line, s.H);
  return {n, static_cast<int>(line - n * s.H), static_cast<int>(index - line * s.W)};
}

// Where one tap reads: the cells of v00 (y0, x0), v01 (y0, x0 + 1), v10 (y0 + 1, x0), v11, or -1 outside the map.
struct Tap {
  bool inside;  // else the sample and all its derivatives are 0
  float ly, lx;
  int64_t corner[4];
  __device__ float weight(int k) const { return (k / 2 == 0 ? 1 - ly : ly) * (k % 2 == 0 ? 1 - lx : lx); }
};

__device__ Tap tap_at(const float* __restrict__ offsets, const Cell& cell, int t, int64_t sample, const Sizes& s) {
  const float py = static_cast<float>(cell.row - s.padding + t / s.K) + offsets[2 * sample];
  const float px = static_cast<float>(cell.col - s.padding + t % s.K) + offsets[2 * sample + 1];
  Tap tap = {false, 0, 0, {-1, -1, -1, -1}};
  // Negated, so that NaN counts as outside.
  if (!(py > -1 && py < static_cast<float>(s.H) && px > -1 && px < static_cast<float>(s.W))) return tap;
  const float fy = floorf(py), fx = floorf(px);
  const int y0 = static_cast<int>(fy), x0 = static_cast<int>(fx);
  tap.inside = true;
  tap.ly = py - fy;
  tap.lx = px - fx;
  const int64_t first = (cell.n * s.H + y0) * s.W + x0;
  const bool top = y0 >= 0, bottom = y0 + 1 < s.H, left = x0 >= 0, right = x0 + 1 < s.W;
  if (top && left) tap.corner[0] = first;
  if (top && right) tap.corner[1] = first + 1;
  if (bottom && left) tap.corner[2] = first + s.W;
  if (bottom && right) tap.corner[3] = first + s.W + 1;
  return tap;
}

// Calls body(cell, t, sample) for every tap that this warp owns; sample = cell * K*K + t.
template <class Body>
__device__ void for_taps(const Sizes& s, Body&& body) {
  const int warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp, taps = s.K * s.K;
  for (int64_t index = blockIdx.x; index < s.cells; index += gridDim.x) {
    const Cell cell = cell_at(index, s);
    for (int t = warp; t < taps; t += warps) body(cell, t, index * taps + t);
  }
}

__device__ float zero(float) { return 0; }
__device__ float4 zero(float4) { return make_float4(0, 0, 0, 0); }
__device__ float add_scaled(float sum, float w, float v) { return sum + w * v; }
__device__ float4 add_scaled(float4 sum, float w, float4 v) {
  return make_float4(sum.x + w * v.x, sum.y + w * v.y, sum.z + w * v.z, sum.w + w * v.w);
}

// T is float, or float4 where channels come in aligned fours; `channels` counts T.
template <class T>
__global__ void deform_im2col_kernel(const T* __restrict__ x, const float* __restrict__ offsets,
                                     T* __restrict__ columns, int channels, const Sizes s) {
  const int lane = threadIdx.x % kWarp;
  for_taps(s, [&](const Cell& cell, int t, int64_t sample) {
    const Tap tap = tap_at(offsets, cell, t, sample, s);
    for (int c = lane; c < channels; c += kWarp) {
      T sum = zero(T());
      for (int k = 0; k < 4; ++k)
        if (tap.corner[k] >= 0) sum = add_scaled(sum, tap.weight(k), x[tap.corner[k] * channels + c]);
      columns[sample * channels + c] = sum;
    }
  });
}

// The sample is v00 + ly (v10 - v00) + lx (v01 - v00) + ly lx (v11 - v01 - v10 + v00): three sums over channels give both
// derivatives. A lane adds channels c, c + 32, ..; then the warp adds its lanes in a tree.
struct OffsetSums {
  float y = 0, x = 0, both = 0;
  __device__ void add(float g, float v00, float v01, float v10, float v11) {
    const float dy = v10 - v00;
    y += g * dy;
    x += g * (v01 - v00);
    both += g * ((v11 - v01) - dy);
  }
  __device__ void add(const float4& g, const float4& v00, const float4& v01, const float4& v10, const float4& v11) {
    add(g.x, v00.x, v01.x, v10.x, v11.x);
    add(g.y, v00.y, v01.y, v10.y, v11.y);
    add(g.z, v00.z, v01.z, v10.z, v11.z);
    add(g.w, v00.w, v01.w, v10.w, v11.w);
  }
};

template <class T>
__global__ void deform_im2col_backward_offsets_kernel(const T* __restrict__ x, const float* __restrict__ offsets,
                                                      const T* __restrict__ grad_columns,
                                                      float* __restrict__ grad_offsets, int channels, bool add,
                                                      const Sizes s) {
  const int lane = threadIdx.x % kWarp;
  for_taps(s, [&](const Cell& cell, int t, int64_t sample) {
    const Tap tap = tap_at(offsets, cell, t, sample, s);
    OffsetSums sums;
    if (tap.inside)
      for (int c = lane; c < channels; c += kWarp) {
        T v[4];
        for (int k = 0; k < 4; ++k) v[k] = tap.corner[k] < 0 ? zero(T()) : x[tap.corner[k] * channels + c];
        sums.add(grad_columns[sample * channels + c], v[0], v[1], v[2], v[3]);
      }
    for (int half = kWarp / 2; half > 0; half /= 2) {
      sums.y += __shfl_down_sync(kAllLanes, sums.y, half);
      sums.x += __shfl_down_sync(kAllLanes, sums.x, half);
      sums.both += __shfl_down_sync(kAllLanes, sums.both, half);
    }
    if (lane == 0) {
      const float gy = sums.y + tap.lx * sums.both, gx = sums.x + tap.ly * sums.both;
      float* out = grad_offsets + 2 * sample;
      out[0] = add ? out[0] + gy : gy;
      out[1] = add ? out[1] + gx : gx;
    }
  });
}

// The scatter adds integers, whose sum does not depend on the order. With m = max |grad_columns| < 2^E a contribution
// w * g is stored as the integer nearest to w * g * 2^(bits - E), at most 2^bits; an element gets at most one per tap and
// cell of its image, and bits = 62 - ceil(log2(H*W*K*K)) keeps the sum below 2^62.
__global__ void clear_kernel(unsigned long long* __restrict__ values, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    values[i] = 0;
}

// Bits of |v| order like |v|, with infinity and then NaN above all numbers.
__global__ void largest_magnitude_kernel(const float* __restrict__ values, int64_t n,
                                         unsigned long long* __restrict__ largest) {
  unsigned bits = 0;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    const unsigned b = static_cast<unsigned>(__float_as_int(values[i])) & 0x7fffffffu;
    bits = b > bits ? b : bits;
  }
  for (int half = kWarp / 2; half > 0; half /= 2) {
    const unsigned other = __shfl_down_sync(kAllLanes, bits, half);
    bits = other > bits ? other : bits;
  }
  if (threadIdx.x % kWarp == 0) atomicMax(largest, static_cast<unsigned long long>(bits));
}

__device__ int exponent_above(unsigned magnitude_bits) {
  int exponent = 0;
  frexpf(__int_as_float(static_cast<int>(magnitude_bits)), &exponent);
  return exponent < -127 ? -127 : exponent;  // 2^127 is the largest power of two that a float holds
}

// `unit` = 2^bits. Both factors are powers of two: rounding happens in w * g and in the conversion only.
__global__ void scatter_kernel(const float* __restrict__ offsets, const float* __restrict__ grad_columns,
                               unsigned long long* __restrict__ sums, const unsigned long long* __restrict__ largest,
                               float unit, const Sizes s) {
  const unsigned magnitude = static_cast<unsigned>(*largest);
  if (magnitude >= kInfinityBits) return;
  const float normalise = ldexpf(1.0f, -exponent_above(magnitude));
  const int lane = threadIdx.x % kWarp;
  for_taps(s, [&](const Cell& cell, int t, int64_t sample) {
    const Tap tap = tap_at(offsets, cell, t, sample, s);
    for (int c = lane; c < s.C; c += kWarp) {
      const float g = grad_columns[sample * s.C + c] * normalise;
      for (int k = 0; k < 4; ++k)
        if (tap.corner[k] >= 0)
          atomicAdd(sums + tap.corner[k] * s.C + c,
                    static_cast<unsigned long long>(__float2ll_rn(tap.weight(k) * unit * g)));
    }
  });
}

__global__ void to_float_kernel(const unsigned long long* __restrict__ sums,
                                const unsigned long long* __restrict__ largest, int bits, bool add,
                                float* __restrict__ grad_x, int64_t n) {
  const unsigned magnitude = static_cast<unsigned>(*largest);
  const int exponent = exponent_above(magnitude) - bits;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    const float sum =
        magnitude >= kInfinityBits ? NAN : ldexpf(static_cast<float>(static_cast<long long>(sums[i])), exponent);
    grad_x[i] = add ? grad_x[i] + sum : sum;
  }
}

Sizes sizes(const DeformDims& d) {
  return {d.N * d.H * d.W, static_cast<int>(d.H), static_cast<int>(d.W), static_cast<int>(d.C), d.K, d.padding};
}

unsigned cell_blocks(const Sizes& s) { return static_cast<unsigned>(std::min(s.cells, kMaxBlocks)); }
int tap_threads(const Sizes& s) { return kWarp * std::min(kMaxWarps, s.K * s.K); }
unsigned flat_blocks(int64_t n) {
  return static_cast<unsigned>(std::min<int64_t>(blocks_for(n, kFlatBlock), kMaxFlatBlocks));
}

bool in_fours(const float* a, const float* b, int channels) {
  return channels % 4 == 0 && reinterpret_cast<uintptr_t>(a) % sizeof(float4) == 0 &&
         reinterpret_cast<uintptr_t>(b) % sizeof(float4) == 0;
}

}  // namespace

void deform_im2col(Cuda& cuda, View<const float> x, View<const float> offsets, int kernel, View<float> columns) {
  const Sizes s = sizes(deform_dims("deform_im2col", x.shape(), offsets.shape(), columns.shape(), kernel));
  if (columns.size() == 0) return;
  if (in_fours(x.data(), columns.data(), s.C))
    launch(deform_im2col_kernel<float4>, cell_blocks(s), tap_threads(s), 0, cuda.stream(),
           reinterpret_cast<const float4*>(x.data()), offsets.data(), reinterpret_cast<float4*>(columns.data()),
           s.C / 4, s);
  else
    launch(deform_im2col_kernel<float>, cell_blocks(s), tap_threads(s), 0, cuda.stream(), x.data(), offsets.data(),
           columns.data(), s.C, s);
}

void deform_im2col_backward_offsets(Cuda& cuda, View<const float> x, View<const float> offsets,
                                    View<const float> grad_columns, int kernel, View<float> grad_offsets,
                                    Accumulate mode) {
  const char* op = "deform_im2col_backward_offsets";
  const Sizes s = sizes(deform_dims(op, x.shape(), offsets.shape(), grad_columns.shape(), kernel));
  require_shape(op, "grad_offsets", grad_offsets, offsets.shape());
  if (s.cells == 0) return;
  const bool add = mode == Accumulate::add;
  if (in_fours(x.data(), grad_columns.data(), s.C))
    launch(deform_im2col_backward_offsets_kernel<float4>, cell_blocks(s), tap_threads(s), 0, cuda.stream(),
           reinterpret_cast<const float4*>(x.data()), offsets.data(),
           reinterpret_cast<const float4*>(grad_columns.data()), grad_offsets.data(), s.C / 4, add, s);
  else
    launch(deform_im2col_backward_offsets_kernel<float>, cell_blocks(s), tap_threads(s), 0, cuda.stream(), x.data(),
           offsets.data(), grad_columns.data(), grad_offsets.data(), s.C, add, s);
}

void deform_im2col_backward_data(Cuda& cuda, View<const float> offsets, View<const float> grad_columns, int kernel,
                                 View<float> grad_x, Accumulate mode, View<int64_t> workspace) {
  const char* op = "deform_im2col_backward_data";
  const DeformDims d = deform_dims(op, grad_x.shape(), offsets.shape(), grad_columns.shape(), kernel);
  const int64_t size = grad_x.size();
  require(workspace.size() >= size + 1 && workspace.data() != nullptr, op,
          "workspace has " + std::to_string(workspace.size()) + " values, expected " + std::to_string(size + 1));
  if (size == 0) return;
  const Sizes s = sizes(d);
  auto* sums = reinterpret_cast<unsigned long long*>(workspace.data());
  auto* largest = sums + size;
  int bits = 62;
  for (int64_t additions = d.H * d.W * d.K * d.K - 1; additions > 0; additions /= 2) --bits;

  launch(clear_kernel, flat_blocks(size + 1), kFlatBlock, 0, cuda.stream(), sums, size + 1);
  launch(largest_magnitude_kernel, flat_blocks(grad_columns.size()), kFlatBlock, 0, cuda.stream(), grad_columns.data(),
         grad_columns.size(), largest);
  launch(scatter_kernel, cell_blocks(s), tap_threads(s), 0, cuda.stream(), offsets.data(), grad_columns.data(), sums,
         largest, ldexpf(1.0f, bits), s);
  launch(to_float_kernel, flat_blocks(size), kFlatBlock, 0, cuda.stream(), sums, largest, bits, mode == Accumulate::add,
         grad_x.data(), size);
}

}  // namespace gradlibra::kernels
