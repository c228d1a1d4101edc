// SPDX-License-Identifier: MIT
// Group norm on the device. Small images (most levels of a pyramid) are bound by launches, not by memory: there a block
// takes all rows of a few whole groups and does everything in one launch. It reads its part twice, the second time from
// the L1 cache of its multiprocessor, which the part fits; copies in shared memory or registers would spare little and
// need a second form of the loops. Other maps take the passes of channel_norm.cu.
#include "kernels/norms/group_norm.h"

#include <optional>

#include "kernels/norms/channel_norm.cuh"

namespace gradlibra::kernels {
namespace {

// The most of a block's part of a map. Forward, two or three parts fit 256 KiB of L1 cache. Back, where a block holds
// three parts (x, y, grad_y), the passes of channel_norm.cu were faster at 32 KiB already (docs/benchmarks.md).
constexpr int64_t kForwardBytes = 65536, kBackwardBytes = 16384;
constexpr int64_t kPartRows = 1024;  // the bound of a chunk's rows (kernels/row_chunks.h), for the same accuracy

template <class T, int V>
__global__ void __launch_bounds__(kBlock)
    small_forward_kernel(const Normalization<T> norm, const Tiling t, const GroupStatistics to) {
  const Share p = share_of<V>(t);
  const int groups = p.channels / t.size;
  float *channel_mean = dynamic_shared<float>(), *channel_m2 = channel_mean + t.width;
  float *group_mean = channel_m2 + t.width, *group_rstd = group_mean + t.width / t.size;
  channel_moments<V>(norm.x, p, t.lanes, channel_mean, channel_m2);
  for (int g = static_cast<int>(threadIdx.x); g < groups; g += kBlock) {
    const JoinedMoments joined = join_channels(channel_mean + g * t.size, channel_m2 + g * t.size, t.size, p.rows);
    group_mean[g] = to.mean_of(joined);
    group_rstd[g] = to.rstd_of(joined);
    to.mean[p.n * t.G + p.first / t.size + g] = group_mean[g];
    to.rstd[p.n * t.G + p.first / t.size + g] = group_rstd[g];
  }
  __syncthreads();
  normalize_rows<V>(norm, p, [&] {
    if (!p.any) return Affine<V>{};
    const int c = p.first + p.c;
    return affine<V>(group_mean, group_rstd, p.c, t.size, norm.weight + c, norm.bias + c);
  });
}

// Also writes sum g and sum g * x_hat per image and channel.
template <class T, int V, bool kRelu>
__global__ void __launch_bounds__(kBlock)
    small_backward_kernel(const Gradient<T> b, const Tiling t, float* __restrict__ sum_g,
                          float* __restrict__ sum_g_x_hat) {
  const Share p = share_of<V>(t);
  const int groups = p.channels / t.size, c = p.first + p.c;
  const int64_t first_group = p.n * t.G + p.first / t.size;
  float *channel_g = dynamic_shared<float>(), *channel_g_x_hat = channel_g + t.width;
  float *average_g = channel_g_x_hat + t.width, *average_g_x_hat = average_g + t.width / t.size;
  float sums[2 * V] = {};
  InputGradient<V> a{};
  Pack<V> rstd{};
  if (p.any)
    for (int k = 0; k < V; ++k) {
      const int64_t group = first_group + (p.c + k) / t.size;
      a.center[k] = b.mean[group];
      rstd[k] = b.rstd[group];
      a.slope[k] = b.weight[c + k] * rstd[k];
    }
  sum_gradients<V, kRelu>(b, p, t.lanes, a.center, sums);
  if (p.slot == 0 && p.any)
    for (int k = 0; k < V; ++k) {
      channel_g[p.c + k] = sum_g[p.n * t.C + c + k] = sums[k];
      channel_g_x_hat[p.c + k] = sum_g_x_hat[p.n * t.C + c + k] = sums[V + k] * rstd[k];
    }
  __syncthreads();
  for (int g = static_cast<int>(threadIdx.x); g < groups; g += kBlock) {
    double sum = 0, sum_x_hat = 0;
    for (int i = g * t.size; i < (g + 1) * t.size; ++i) {
      const auto w = static_cast<double>(b.weight[p.first + i]);
      sum += w * static_cast<double>(channel_g[i]);
      sum_x_hat += w * static_cast<double>(channel_g_x_hat[i]);
    }
    const double count = static_cast<double>(p.rows) * t.size;
    average_g[g] = static_cast<float>(sum / count);
    average_g_x_hat[g] = static_cast<float>(sum_x_hat / count);
  }
  __syncthreads();
  for_each_row<kAheadThree>(
      p, [&](int offset) { return hold_gradient<V, kRelu>(b, p.at + offset); },
      [&] {
        for (int k = 0; p.any && k < V; ++k) {
          a.level[k] = rstd[k] * average_g[(p.c + k) / t.size];
          a.tilt[k] = rstd[k] * rstd[k] * average_g_x_hat[(p.c + k) / t.size];
        }
      },
      [&](int offset, const HeldGradient<T, V>& held) {
        store_gradient<V, kRelu>(b, p.at + offset, widened(held), a);
      });
}

// All rows in a block and whole groups of at least 32 bytes, memory's sector, to a row; wider while the part fits and
// there are more blocks than the card holds at once: a second wave of them would take as long as the first. Nothing for
// maps that are too large.
template <class T>
std::optional<Tiling> small_tiling(const NormShape& s, int V, int64_t most_bytes) {
  if (s.N * s.R == 0 || s.R > kPartRows || s.channels_per_group() > kBlock) return {};
  Tiling t(s, V, std::lcm(s.channels_per_group(), int64_t{V}), 32 / sizeof(T), s.R);
  const auto fits = [&](int64_t width) { return s.R * width * int64_t{sizeof(T)} <= most_bytes; };
  if (!fits(t.width)) return {};
  while (fits(2 * t.width) && 2 * t.width <= std::min(t.C, kBlock * V) && t.blocks() > kFill) t.set_width(2 * t.width);
  return t;
}

size_t shared_bytes(const Tiling& t) { return 2 * sizeof(float) * static_cast<size_t>(t.width + t.width / t.size); }

}  // namespace

template <MapType T>
void group_norm(Cuda& cuda, const GroupNorm<T>& norm) {
  constexpr auto op = "group_norm";
  const NormShape s = group_norm_shape(op, norm.x.shape(), norm.groups);
  const NormStatisticsPass<T> statistics = norm.statistics();
  const NormForwardPass<T> forward = norm.forward();
  check_norm_statistics(op, s, statistics);
  check_norm_forward(op, s, forward);
  with_pack<T>(s.C, aligned(norm.x.data(), norm.y.data()), [&](auto V) {
    if (const auto t = small_tiling<T>(s, V, kForwardBytes))
      launch(small_forward_kernel<T, V>, t->grid(op), kBlock, shared_bytes(*t), cuda.stream(),
             normalization_of(forward), *t, group_statistics(s, statistics));
    else
      norm_statistics_and_forward(cuda, op, s, statistics, forward);
  });
}

template <MapType T>
void group_norm_backward(Cuda& cuda, const NormBackwardPass<T>& b, int groups) {
  constexpr auto op = "group_norm_backward";
  const NormShape s = group_norm_shape(op, b.grad_y.shape(), groups);
  check_norm_backward(op, s, b);
  with_pack<T>(s.C, aligned(b.x.data(), b.y.data(), b.grad_y.data(), b.grad_x.grad.data()), [&](auto V) {
    const auto t = b.grad_x.wanted() ? small_tiling<T>(s, V, kBackwardBytes) : std::nullopt;
    if (!t) {
      norm_backward(cuda, op, s, b);
      return;
    }
    float *sum_g = b.workspace.data(), *sum_g_x_hat = sum_g + s.N * s.C;
    launch(b.relu() ? small_backward_kernel<T, V, true> : small_backward_kernel<T, V, false>, t->grid(op), kBlock,
           shared_bytes(*t), cuda.stream(), gradient_of(b), *t, sum_g, sum_g_x_hat);
    if (b.wants_params()) launch_gradient_totals(cuda, op, s, 1, sum_g, sum_g_x_hat, parameter_totals(b));
  });
}

template void group_norm(Cuda&, const GroupNorm<float>&);
template void group_norm_backward(Cuda&, const NormBackwardPass<float>&, int);

template void group_norm(Cuda&, const GroupNorm<bfloat16>&);
template void group_norm_backward(Cuda&, const NormBackwardPass<bfloat16>&, int);

}  // namespace gradlibra::kernels
