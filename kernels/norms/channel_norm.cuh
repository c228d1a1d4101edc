// SPDX-License-Identifier: MIT
// Device side of the norms: how blocks and threads share a map, and what a block does with its part of one.
//
// Words, for a map of R rows (positions of an image) and C channels:
//   pack       V neighbouring channels of a row, 16 bytes, which a thread loads, computes and stores together
//              (kernels/vector_access.cuh); V = 1 where channels or addresses do not allow more
//   tile       neighbouring channels that a block owns: whole units, a unit being what must not be cut (a group that is
//              summed, a pack); blockIdx.y says which
//   lane       a thread's place along a row of the tile: which pack
//   slot       its place across rows: which row first; `slots` is the step to its next one
//   share      what follows for one thread: one pack of every slots-th row of its block
//   row chunk  the rows whose sums make one partial result (kernels/row_chunks.h): cut by the shape alone, so that no
//              bit depends on how many blocks there are
//   held       a pack as it lies in memory, loaded ahead and not yet widened to float
//   moments    mean and M2 (the sum of squared distances from it) of a set; those of sets are joined to those of all
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "kernels/block_sum.cuh"
#include "kernels/launch.h"
#include "kernels/norms/norm_checks.h"

namespace gradlibra::kernels {

// The least power of two that is not below n, at most kBlock.
inline int lanes_over(int64_t n) {
  int lanes = 1;
  while (lanes < n && lanes < kBlock) lanes *= 2;
  return lanes;
}

// A block owns `rows` rows of one image and a tile of `width` channels; a thread owns one pack of V neighbouring
// channels (16 bytes, or single channels where their number or an address does not allow it) and every slots-th row, so
// that its coefficients stay in registers and a warp reads what lies together. blockIdx.x: image and rows; blockIdx.y:
// tile. Tiles are whole units of channels, of at most kBlock packs.
struct Tiling {
  Tiling(const NormShape& s, int V_, int64_t unit_, int64_t width_, int64_t rows_)
      : N(s.N),
        R(s.R),
        C(static_cast<int>(s.C)),
        G(static_cast<int>(s.G)),
        size(static_cast<int>(s.C / s.G)),
        V(V_),
        unit(static_cast<int>(unit_)) {
    set_width(std::min(width_, s.C));
    set_rows(rows_);
  }
  // Rounded up to whole units; kBlock packs hold at least one.
  void set_width(int64_t channels) {
    const int64_t most = int64_t{kBlock} * V / unit;
    width = static_cast<int>(std::min((channels + unit - 1) / unit, most)) * unit;
    lanes = lanes_over(width / V);
  }
  void set_rows(int64_t rows_) {
    rows = static_cast<int>(rows_);
    row_blocks = static_cast<int>((R + rows - 1) / rows);
  }
  [[nodiscard]] int tiles() const { return (C + width - 1) / width; }
  [[nodiscard]] int64_t blocks() const { return N * row_blocks * tiles(); }
  [[nodiscard]] dim3 grid(const char* op) const {
    require(N * row_blocks < INT32_MAX && tiles() <= 65535 && R < INT32_MAX, op,
            "the map has more rows or channels than a grid");
    return dim3(static_cast<unsigned>(N * row_blocks), static_cast<unsigned>(tiles()));
  }

  int64_t N, R;
  int C, G, size;  // size: channels of a group
  int V, unit;
  int width, lanes;      // lanes: threads along a row, a power of two
  int rows, row_blocks;  // row_blocks: per image
  // Blocks from the map's end to its beginning, in a pass over what the one before has read: that begins with what the
  // L2 cache still holds.
  bool backwards = false;
};

// Two blocks for each multiprocessor of the largest card in mind (132): fewer leave some of them idle.
inline constexpr int kFill = 264;

// The part of a map that one thread owns.
struct Share {
  int64_t n, at;                 // at: index in the map of the thread's pack in the block's first row
  int C, rows, first, channels;  // the block's: rows, first channel and number of channels
  int c, slot, slots;            // the thread's channel, counted from `first`; its first row, and the step to the next
  int block;                     // of the image's row_blocks
  bool any;                      // whether it owns channels at all
};

template <int V>
__device__ Share share_of(const Tiling& t) {
  Share p;
  const int thread = static_cast<int>(threadIdx.x);
  const auto number = static_cast<int>(t.backwards ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
  const int image = number / t.row_blocks;
  p.block = number % t.row_blocks;
  const int row = p.block * t.rows, left = static_cast<int>(t.R) - row;
  p.n = image;
  p.C = t.C;
  p.rows = left < t.rows ? left : t.rows;
  p.first = static_cast<int>(blockIdx.y) * t.width;
  p.channels = t.C - p.first < t.width ? t.C - p.first : t.width;
  p.c = thread % t.lanes * V;
  p.slot = thread / t.lanes;
  p.slots = kBlock / t.lanes;
  p.any = p.c < p.channels;
  p.at = (p.n * t.R + row) * t.C + p.first + p.c;
  return p;
}

// Calls use(offset from p.at, load(offset)) for the thread's rows. kAhead rows are loaded before the first is used: a
// store may be to the map that is read, so the compiler could not move loads past it, and one load at a time would
// leave memory idle. Rows past the end are loaded as the last row again, which keeps the loads free of branches.
// meanwhile() is called once, behind the first loads, and by threads without channels too: it may hold barriers.
template <int kAhead, class Load, class Meanwhile, class Use>
__device__ void for_each_row(const Share& p, Load load, Meanwhile meanwhile, Use use) {
  decltype(load(0)) ahead[kAhead] = {};
  const auto fetch = [&](int row) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int r = row + u * p.slots;
      ahead[u] = load((r < p.rows ? r : p.rows - 1) * p.C);
    }
  };
  if (p.any) fetch(p.slot);
  meanwhile();
  if (!p.any) return;
  for (int row = p.slot; row < p.rows;) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u)
      if (row + u * p.slots < p.rows) use((row + u * p.slots) * p.C, ahead[u]);
    row += kAhead * p.slots;
    if (row < p.rows) fetch(row);
  }
}

// Rows ahead where one map is read and written, where one is read and summed (the sums take registers: with more ahead
// too few blocks share a multiprocessor to hide what a block does between its loads), and where up to three are read.
inline constexpr int kAheadOne = 8, kAheadSums = 4, kAheadThree = 4;

// A pack as it lies in memory. Rows are loaded ahead in this form: widened, those of bfloat16 would take twice the
// registers, and half the threads would fit a multiprocessor.
template <class T, int V>
struct Held {
  static_assert(V == 1 || V * sizeof(T) == sizeof(uint4));
  std::conditional_t<V == 1, T, uint4> words;
};

template <int V, class T>
__device__ Held<T, V> hold(const T* p) {
  return {*reinterpret_cast<const decltype(Held<T, V>::words)*>(p)};
}

template <class T, int V>
__device__ Pack<V> widened(const Held<T, V>& held) {
  return load<V>(reinterpret_cast<const T*>(&held.words));
}

// Moments of sets joined as sums shifted by the mean of the first. In double: no digit of the float results is lost.
struct JoinedMoments {
  double shift, sum = 0, squares = 0;
  __device__ void add(double count, float mean, float m2) {
    const double d = static_cast<double>(mean) - shift;
    sum += count * d;
    squares += static_cast<double>(m2) + count * d * d;
  }
  __device__ double mean(double count) const { return shift + sum / count; }
  __device__ double m2(double count) const {
    const double value = squares - sum * sum / count;
    return value < 0 ? 0 : value;
  }
};

// Of `count` elements each: what becomes of the moments of a group.
struct GroupStatistics {
  double count;
  float eps;
  float *mean, *rstd;  // [n][group], for the backward pass
  __device__ float mean_of(const JoinedMoments& joined) const { return static_cast<float>(joined.mean(count)); }
  __device__ float rstd_of(const JoinedMoments& joined) const {
    return static_cast<float>(1 / sqrt(joined.m2(count) / count + static_cast<double>(eps)));
  }
};

// Elements of a group in an image, 1 if there are none: what sums are divided by.
inline double group_count(const NormShape& s) {
  return s.R > 0 ? static_cast<double>(s.R * s.channels_per_group()) : 1.0;
}

template <MapType T>
GroupStatistics group_statistics(const NormShape& s, const NormStatisticsPass<T>& pass) {
  return {group_count(s), pass.eps, pass.mean.data(), pass.rstd.data()};
}

// mean[c] and m2[c], in shared memory, of the block's channels: the mean over the block's rows, and the sum of squared
// distances from it, by sums shifted by the first row. Every thread must call.
template <int V, class T>
__device__ void channel_moments(const T* x, const Share& p, int lanes, float* mean, float* m2) {
  float sums[2 * V] = {};
  Pack<V> shift{};
  for_each_row<kAheadSums>(
      p, [&](int offset) { return hold<V>(x + p.at + offset); },
      [&] {
        if (p.any) shift = load<V>(x + p.at);
      },
      [&](int, const Held<T, V>& held) {
        const Pack<V> v = widened(held);
        for (int k = 0; k < V; ++k) {
          const float d = v[k] - shift[k];
          sums[k] += d;
          sums[V + k] += d * d;
        }
      });
  slot_sum(sums, lanes);
  if (p.slot == 0 && p.any) {
    const auto count = static_cast<float>(p.rows);
    for (int k = 0; k < V; ++k) {
      const float squares = sums[V + k] - sums[k] * sums[k] / count;
      mean[p.c + k] = shift[k] + sums[k] / count;
      m2[p.c + k] = squares < 0 ? 0 : squares;
    }
  }
  __syncthreads();
}

// The moments of `channels` neighbouring channels of `rows` rows each.
__device__ inline JoinedMoments join_channels(const float* mean, const float* m2, int channels, int rows) {
  JoinedMoments joined{static_cast<double>(mean[0])};
  for (int c = 0; c < channels; ++c) joined.add(rows, mean[c], m2[c]);
  return joined;
}

// y = slope * (x - center) + offset.
template <int V>
struct Affine {
  Pack<V> center, slope, offset;
};

// mean, rstd: of the group that holds channel 0, and those after it; `channel` is counted from there. weight, bias: at
// that channel.
template <int V>
__device__ Affine<V> affine(const float* mean, const float* rstd, int channel, int size, const float* weight,
                            const float* bias) {
  Affine<V> a;
  for (int k = 0; k < V; ++k) {
    const int group = (channel + k) / size;
    a.center[k] = mean[group];
    a.slope[k] = __ldg(weight + k) * rstd[group];
    a.offset[k] = __ldg(bias + k);
  }
  return a;
}

// A norm's map, parameters and result. y may be x.
template <class T>
struct Normalization {
  const T* x;
  const float *weight, *bias;
  bool relu;
  T* y;
};

template <MapType T>
Normalization<T> normalization_of(const NormForwardPass<T>& pass) {
  return {pass.x.data(), pass.weight.data(), pass.bias.data(), pass.relu(), pass.y.data()};
}

// coefficients() gives the Affine; it is called behind the first loads and may hold barriers.
template <int V, class T, class Coefficients>
__device__ void normalize_rows(const Normalization<T>& norm, const Share& p, Coefficients coefficients) {
  Affine<V> a{};
  for_each_row<kAheadOne>(
      p, [&](int offset) { return hold<V>(norm.x + p.at + offset); }, [&] { a = coefficients(); },
      [&](int offset, const Held<T, V>& held) {
        Pack<V> v = widened(held);
        for (int k = 0; k < V; ++k) {
          v[k] = a.slope[k] * (v[k] - a.center[k]) + a.offset[k];
          if (norm.relu && v[k] < 0) v[k] = 0;
        }
        store<V>(norm.y + p.at + offset, v);
      });
}

template <class T>
struct Gradient {
  const T *x, *y, *grad_y;
  const float *mean, *rstd, *weight;
  T* grad_x;
  bool add;
};

template <MapType T>
Gradient<T> gradient_of(const NormBackwardPass<T>& b) {
  return {b.x.data(),    b.y.data(),      b.grad_y.data(),      b.mean.data(),
          b.rstd.data(), b.weight.data(), b.grad_x.grad.data(), b.grad_x.adds()};
}

// What the backward passes read of one row; y as far as it is needed.
template <class T, int V>
struct HeldGradient {
  Held<T, V> x, y, g;
};
template <int V>
struct GradientRow {
  Pack<V> x, y, g;
};

template <class T, int V>
__device__ GradientRow<V> widened(const HeldGradient<T, V>& row) {
  return {widened(row.x), widened(row.y), widened(row.g)};
}

// grad_y where the output y was positive, everywhere without relu.
template <int V, bool kRelu>
__device__ float masked(const GradientRow<V>& row, int k) {
  return !kRelu || row.y[k] > 0 ? row.g[k] : 0;
}

// A compile-time flag, because a branch between loads would make one wait for the other.
template <int V, bool kRelu, class T>
__device__ HeldGradient<T, V> hold_gradient(const Gradient<T>& b, int64_t at) {
  HeldGradient<T, V> row{};
  row.g = hold<V>(b.grad_y + at);
  if constexpr (kRelu) row.y = hold<V>(b.y + at);
  row.x = hold<V>(b.x + at);
  return row;
}

// sums[k] = sum of g and sums[V + k] = sum of g * (x - center) over the block's rows; valid in slot 0.
template <int V, bool kRelu, class T>
__device__ void sum_gradients(const Gradient<T>& b, const Share& p, int lanes, const Pack<V>& center,
                              float (&sums)[2 * V]) {
  for_each_row<kAheadThree>(
      p, [&](int offset) { return hold_gradient<V, kRelu>(b, p.at + offset); }, [] {},
      [&](int, const HeldGradient<T, V>& held) {
        const GradientRow<V> row = widened(held);
        for (int k = 0; k < V; ++k) {
          const float g = masked<V, kRelu>(row, k);
          sums[k] += g;
          sums[V + k] += g * (row.x[k] - center[k]);
        }
      });
  slot_sum(sums, lanes);
}

// grad_x (+)= slope * g - level - tilt * (x - center), the coefficients constant per image and channel.
template <int V>
struct InputGradient {
  Pack<V> slope, level, tilt, center;
};

template <int V, bool kRelu, class T>
__device__ void store_gradient(const Gradient<T>& b, int64_t at, const GradientRow<V>& row, const InputGradient<V>& a) {
  Pack<V> d;
  for (int k = 0; k < V; ++k) {
    d[k] = a.slope[k] * masked<V, kRelu>(row, k);
    d[k] -= a.level[k] + a.tilt[k] * (row.x[k] - a.center[k]);
  }
  store<V>(b.grad_x + at, d, b.add);
}

// What the sums of g and g * x_hat per (image, chunk, channel) are joined to. What is not wanted is null.
struct GradientTotals {
  float *grad_bias, *grad_weight;
  bool add_bias, add_weight;
  const float* weight;
  float *average_g, *average_g_x_hat;  // [n][group]: (1/m) sum(weight*g) and (1/m) sum(weight*g*x_hat)
};

template <MapType T>
GradientTotals parameter_totals(const NormBackwardPass<T>& b) {
  const GradTarget<>&bias = b.grad_bias, &weight = b.grad_weight;
  return {bias.grad.data(), weight.grad.data(), bias.adds(), weight.adds(), b.weight.data(), nullptr, nullptr};
}

void launch_gradient_totals(Cuda&, const char* op, const NormShape&, int chunks, const float* sum_g,
                            const float* sum_g_x_hat, const GradientTotals&);

}  // namespace gradlibra::kernels
