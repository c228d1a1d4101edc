// SPDX-License-Identifier: MIT
// Normalisation by groups of channels on the device. In the kernels that read maps, a block owns one chunk of rows and
// lanes * V channels; a thread owns V neighbouring channels (4, or 1 where channels or addresses do not allow it) and every
// slots-th row, so its coefficients stay in registers. Sums go per chunk into the workspace and are joined by small kernels.
#include "kernels/block_reduce.cuh"
#include "kernels/channel_norm.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {
namespace {

constexpr int kGroupBlock = 128;  // threads that join the partial results of one group

// The part of a map that one thread owns: channels c .. c + V - 1 of image n, rows begin, begin + slots, ... < end.
struct Part {
  int64_t n, begin, end, c, partial;
  int slot, slots;
  bool any;
};

template <int V>
__device__ Part part_of(const NormShape& s, int lanes) {
  const int64_t chunk = blockIdx.x % s.chunks(), first = chunk * rows_per_chunk(s.C),
                last = first + rows_per_chunk(s.C);
  Part p;
  p.n = blockIdx.x / s.chunks();
  p.slot = static_cast<int>(threadIdx.x) / lanes;
  p.slots = kBlock / lanes;
  p.begin = first + p.slot;
  p.end = last < s.R ? last : s.R;
  p.c = (static_cast<int64_t>(blockIdx.y) * lanes + threadIdx.x % lanes) * V;
  p.partial = blockIdx.x * s.C + p.c;
  p.any = p.c < s.C;
  return p;
}

__device__ int64_t group_of(const NormShape& s, const Part& p, int k) {
  return p.n * s.G + (p.c + k) / s.channels_per_group();
}

// grad_y where the output y was positive, everywhere without relu.
template <int V>
__device__ Pack<V> masked_gradient(const float* y, const float* grad_y, bool relu, int64_t at) {
  Pack<V> g = load<V>(grad_y + at);
  if (relu) {
    const Pack<V> out = load<V>(y + at);
    for (int k = 0; k < V; ++k) g[k] = out[k] > 0 ? g[k] : 0;
  }
  return g;
}

// Per chunk and channel: the mean, and the sum of squared distances from it, by sums shifted by the chunk's first row.
template <int V>
__global__ void moments_kernel(const float* __restrict__ x, const NormShape s, int lanes,
                               float* __restrict__ chunk_mean, float* __restrict__ chunk_m2) {
  const Part p = part_of<V>(s, lanes);
  Pack<V> shift{};
  float sums[2 * V] = {};
  if (p.any) {
    const float* rows = x + p.n * s.R * s.C + p.c;
    shift = load<V>(rows + (p.begin - p.slot) * s.C);
#pragma unroll 4
    for (int64_t r = p.begin; r < p.end; r += p.slots) {
      const Pack<V> v = load<V>(rows + r * s.C);
      for (int k = 0; k < V; ++k) {
        const float d = v[k] - shift[k];
        sums[k] += d;
        sums[V + k] += d * d;
      }
    }
  }
  slot_sum(sums, lanes);
  if (p.slot != 0 || !p.any) return;
  const auto count = static_cast<float>(p.end - p.begin);
  for (int k = 0; k < V; ++k) {
    const float m2 = sums[V + k] - sums[k] * sums[k] / count;
    chunk_mean[p.partial + k] = shift[k] + sums[k] / count;
    chunk_m2[p.partial + k] = m2 < 0 ? 0 : m2;
  }
}

struct Running {
  float momentum;
  float *mean, *var;
};

// One block per image and group joins the moments of its chunks and channels, in double.
__global__ void join_moments_kernel(const float* chunk_mean, const float* chunk_m2, const NormShape s, float eps,
                                    float* mean, float* rstd, const Running running) {
  const int64_t n = blockIdx.x / s.G, g = blockIdx.x % s.G, size = s.channels_per_group();
  const auto partial = [&](int64_t i) { return (n * s.chunks() + i / size) * s.C + g * size + i % size; };
  const auto rows = [&](int64_t i) {
    const int64_t left = s.R - i / size * rows_per_chunk(s.C);
    return static_cast<double>(left < rows_per_chunk(s.C) ? left : rows_per_chunk(s.C));
  };
  const int64_t partials = s.chunks() * size;
  const double count = s.R > 0 ? static_cast<double>(s.R * size) : 1.0;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < partials; i += blockDim.x)
    sum += rows(i) * static_cast<double>(chunk_mean[partial(i)]);
  const double average = block_sum(sum) / count;
  double m2 = 0;
  for (int64_t i = threadIdx.x; i < partials; i += blockDim.x) {
    const double d = static_cast<double>(chunk_mean[partial(i)]) - average;
    m2 += static_cast<double>(chunk_m2[partial(i)]) + rows(i) * d * d;
  }
  m2 = block_sum(m2);
  if (threadIdx.x != 0) return;
  mean[blockIdx.x] = static_cast<float>(average);
  rstd[blockIdx.x] = static_cast<float>(1 / sqrt(m2 / count + static_cast<double>(eps)));
  if (running.mean == nullptr) return;
  const auto unbiased = static_cast<float>(count > 1 ? m2 / (count - 1) : m2 / count);
  running.mean[g] = (1 - running.momentum) * running.mean[g] + running.momentum * static_cast<float>(average);
  running.var[g] = (1 - running.momentum) * running.var[g] + running.momentum * unbiased;
}

// y may be x.
template <int V>
__global__ void forward_kernel(const float* x, const float* __restrict__ mean, const float* __restrict__ rstd,
                               const float* __restrict__ weight, const float* __restrict__ bias, const NormShape s,
                               int lanes, bool relu, float* y) {
  const Part p = part_of<V>(s, lanes);
  if (!p.any) return;
  Pack<V> center, slope, offset;
  for (int k = 0; k < V; ++k) {
    const int64_t group = group_of(s, p, k);
    center[k] = mean[group];
    slope[k] = weight[p.c + k] * rstd[group];
    offset[k] = bias[p.c + k];
  }
#pragma unroll 4
  for (int64_t r = p.begin; r < p.end; r += p.slots) {
    const int64_t at = (p.n * s.R + r) * s.C + p.c;
    Pack<V> v = load<V>(x + at);
    for (int k = 0; k < V; ++k) {
      v[k] = slope[k] * (v[k] - center[k]) + offset[k];
      if (relu && v[k] < 0) v[k] = 0;
    }
    store<V>(y + at, v);
  }
}

struct Gradient {
  const float *x, *y, *grad_y, *mean, *rstd, *weight;
  bool relu, frozen;
};

// Per chunk and channel: sum g and sum g * x_hat.
template <int V>
__global__ void gradient_sums_kernel(const Gradient b, const NormShape s, int lanes, float* __restrict__ sum_g,
                                     float* __restrict__ sum_g_x_hat) {
  const Part p = part_of<V>(s, lanes);
  float sums[2 * V] = {};
  if (p.any) {
    Pack<V> center;
    for (int k = 0; k < V; ++k) center[k] = b.mean[group_of(s, p, k)];
#pragma unroll 4
    for (int64_t r = p.begin; r < p.end; r += p.slots) {
      const int64_t at = (p.n * s.R + r) * s.C + p.c;
      const Pack<V> g = masked_gradient<V>(b.y, b.grad_y, b.relu, at), x = load<V>(b.x + at);
      for (int k = 0; k < V; ++k) {
        sums[k] += g[k];
        sums[V + k] += g[k] * (x[k] - center[k]);
      }
    }
  }
  slot_sum(sums, lanes);
  if (p.slot != 0 || !p.any) return;
  for (int k = 0; k < V; ++k) {
    sum_g[p.partial + k] = sums[k];
    sum_g_x_hat[p.partial + k] = sums[V + k] * b.rstd[group_of(s, p, k)];
  }
}

// blockIdx.y = 0: grad_bias, 1: grad_weight. rows: images times chunks.
__global__ void parameter_gradient_kernel(const float* partials, int64_t rows, int64_t C, float* grad_bias,
                                          float* grad_weight, bool add) {
  column_totals(partials + blockIdx.y * rows * C, rows, C, blockIdx.y == 0 ? grad_bias : grad_weight, add);
}

// One block per image and group: (1/m) sum(weight*g) and (1/m) sum(weight*g*x_hat).
__global__ void group_averages_kernel(const float* sum_g, const float* sum_g_x_hat, const float* weight,
                                      const NormShape s, float* average_g, float* average_g_x_hat) {
  const int64_t n = blockIdx.x / s.G, g = blockIdx.x % s.G, size = s.channels_per_group();
  double sum = 0, sum_x_hat = 0;
  for (int64_t i = threadIdx.x; i < s.chunks() * size; i += blockDim.x) {
    const int64_t c = g * size + i % size, partial = (n * s.chunks() + i / size) * s.C + c;
    sum += static_cast<double>(weight[c]) * static_cast<double>(sum_g[partial]);
    sum_x_hat += static_cast<double>(weight[c]) * static_cast<double>(sum_g_x_hat[partial]);
  }
  sum = block_sum(sum);
  sum_x_hat = block_sum(sum_x_hat);
  if (threadIdx.x != 0) return;
  average_g[blockIdx.x] = static_cast<float>(sum / static_cast<double>(s.R * size));
  average_g_x_hat[blockIdx.x] = static_cast<float>(sum_x_hat / static_cast<double>(s.R * size));
}

// grad_x (+)= slope * g - level - tilt * (x - mean), the coefficients constant per image and channel; level = tilt = 0 if frozen.
template <int V>
__global__ void input_gradient_kernel(const Gradient b, const NormShape s, int lanes,
                                      const float* __restrict__ average_g, const float* __restrict__ average_g_x_hat,
                                      float* grad_x, bool add) {
  const Part p = part_of<V>(s, lanes);
  if (!p.any) return;
  Pack<V> slope, level{}, tilt{}, center{};
  for (int k = 0; k < V; ++k) {
    const int64_t group = group_of(s, p, k);
    slope[k] = b.weight[p.c + k] * b.rstd[group];
    if (b.frozen) continue;
    level[k] = b.rstd[group] * average_g[group];
    tilt[k] = b.rstd[group] * b.rstd[group] * average_g_x_hat[group];
    center[k] = b.mean[group];
  }
#pragma unroll 4
  for (int64_t r = p.begin; r < p.end; r += p.slots) {
    const int64_t at = (p.n * s.R + r) * s.C + p.c;
    Pack<V> d = masked_gradient<V>(b.y, b.grad_y, b.relu, at);
    for (int k = 0; k < V; ++k) d[k] *= slope[k];
    if (!b.frozen) {
      const Pack<V> x = load<V>(b.x + at);
      for (int k = 0; k < V; ++k) d[k] -= level[k] + tilt[k] * (x[k] - center[k]);
    }
    store<V>(grad_x + at, d, add);
  }
}

// The grid of the kernels that read maps: chunks of all images times tiles of channels.
struct MapLaunch {
  MapLaunch(const char* op, const NormShape& s, bool vectors)
      : V(vectors && s.C % 4 == 0 ? 4 : 1), lanes(lanes_for(s.C, V)) {
    require(s.N * s.chunks() < INT32_MAX && s.C / (lanes * V) < 65535, op,
            "the map has more rows or channels than a grid");
    grid = dim3(static_cast<unsigned>(s.N * s.chunks()), blocks_for(s.C, lanes * V));
  }
  int V, lanes;
  dim3 grid;
};

}  // namespace

void norm_statistics(Cuda& cuda, const char* op, const NormShape& s, View<const float> x, float eps, View<float> mean,
                     View<float> rstd, const RunningStatistics& running, View<float> workspace) {
  check_norm_statistics(op, s, x, mean, rstd, running, workspace);
  if (s.N == 0) return;
  float* chunk_mean = workspace.data();
  float* chunk_m2 = workspace.data() + s.partials();
  if (s.R > 0) {
    const MapLaunch map(op, s, aligned(x.data()));
    launch(map.V == 4 ? moments_kernel<4> : moments_kernel<1>, map.grid, kBlock, 0, cuda.stream(), x.data(), s,
           map.lanes, chunk_mean, chunk_m2);
  }
  launch(join_moments_kernel, static_cast<unsigned>(s.N * s.G), kGroupBlock, 0, cuda.stream(), chunk_mean, chunk_m2, s,
         eps, mean.data(), rstd.data(), Running{running.momentum, running.mean.data(), running.var.data()});
}

void norm_forward(Cuda& cuda, const char* op, const NormShape& s, View<const float> x, View<const float> mean,
                  View<const float> rstd, View<const float> weight, View<const float> bias, Activation activation,
                  View<float> y) {
  check_norm_forward(op, s, x, mean, rstd, weight, bias, y);
  if (x.size() == 0) return;
  const MapLaunch map(op, s, aligned(x.data(), y.data()));
  launch(map.V == 4 ? forward_kernel<4> : forward_kernel<1>, map.grid, kBlock, 0, cuda.stream(), x.data(), mean.data(),
         rstd.data(), weight.data(), bias.data(), s, map.lanes, activation == Activation::relu, y.data());
}

void norm_backward(Cuda& cuda, const char* op, const NormShape& s, const NormBackward& b) {
  check_norm_backward(op, s, b);
  const bool empty = s.N * s.R == 0;
  const Gradient gradient{b.x.data(),    b.y.data(),      b.grad_y.data(), b.mean.data(),
                          b.rstd.data(), b.weight.data(), b.relu(),        b.frozen()};
  const MapLaunch map(op, s, aligned(b.x.data(), b.y.data(), b.grad_y.data(), b.grad_x.data()));
  float* sums = b.workspace.data();
  if (b.needs_sums() && !empty)
    launch(map.V == 4 ? gradient_sums_kernel<4> : gradient_sums_kernel<1>, map.grid, kBlock, 0, cuda.stream(), gradient,
           s, map.lanes, sums, sums + s.partials());
  if (b.wants_params())
    launch(parameter_gradient_kernel, dim3(blocks_for(s.C, kTotalLanes), 2), kBlock, 0, cuda.stream(), sums,
           s.N * s.chunks(), s.C, b.grad_bias.data(), b.grad_weight.data(), b.mode_params == Accumulate::add);
  if (!b.wants_x() || empty) return;
  float *average_g = nullptr, *average_g_x_hat = nullptr;
  if (!b.frozen()) {
    average_g = sums + 2 * s.partials();
    average_g_x_hat = average_g + s.N * s.G;
    launch(group_averages_kernel, static_cast<unsigned>(s.N * s.G), kGroupBlock, 0, cuda.stream(), sums,
           sums + s.partials(), b.weight.data(), s, average_g, average_g_x_hat);
  }
  launch(map.V == 4 ? input_gradient_kernel<4> : input_gradient_kernel<1>, map.grid, kBlock, 0, cuda.stream(), gradient,
         s, map.lanes, average_g, average_g_x_hat, b.grad_x.data(), b.mode_x == Accumulate::add);
}

}  // namespace gradlibra::kernels
