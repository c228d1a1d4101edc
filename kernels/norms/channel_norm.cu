// SPDX-License-Identifier: MIT
// Normalisation by groups of channels on the device, in passes over the map (kernels/norms/channel_norm.cuh says how
// blocks share it). Passes that sum have blocks of one chunk of rows; their results go into the workspace. What joins
// them is a kernel of its own, or, where an image has few enough, the start of each block of the next pass. Passes that
// only map may cut the rows as they like.
#include "kernels/norms/channel_norm.cuh"

namespace gradlibra::kernels {
namespace {

constexpr int kMomentBlocks = 4;  // that must fit a multiprocessor: kAheadSums
constexpr int kJoinLanes = 8;     // groups of a block that only joins: there are few blocks and many chunks
constexpr int kMomentLanes = 4;   // the same where moments are joined, which takes longer
constexpr int kJoinAhead = 16;    // chunks that a thread of such a block loads at a time: nothing else hides the wait
constexpr int kJoinAheadInPlace = 8;    // where the rows of the map have been loaded, too
constexpr int64_t kJoinInPlace = 2048;  // moments of an image, 16 KiB, that a block of the next pass may read first

// Moments per chunk of rows and part of a group, a part being as many whole channels as a block can surely hold.
struct ChunkMoments {
  ChunkMoments(const NormShape& s, View<float> workspace)
      : chunks(static_cast<int>(s.chunks())),
        rows(static_cast<int>(rows_per_chunk(s.C))),
        last_rows(static_cast<int>(s.R - (s.chunks() - 1) * rows_per_chunk(s.C))),
        channels(static_cast<int>(std::min<int64_t>(s.channels_per_group(), kBlock))) {
    while (s.channels_per_group() % channels != 0) --channels;
    parts = static_cast<int>(s.channels_per_group() / channels);
    per_image = static_cast<int>(s.C / channels);
    mean = workspace.data();
    m2 = workspace.data() + s.N * chunks * per_image;
  }
  [[nodiscard]] bool joined_in_place() const {
    return chunks > 0 && parts == 1 && int64_t{chunks} * per_image <= kJoinInPlace;
  }

  int chunks, rows, last_rows;     // per image; of a chunk and of the last one
  int channels, parts, per_image;  // channels of a part; parts of a group and of an image's channels
  float *mean, *m2;                // [n][chunk][part]
};

template <class T, int V>
__global__ void __launch_bounds__(kBlock, kMomentBlocks)
    moments_kernel(const T* __restrict__ x, const Tiling t, const ChunkMoments m) {
  const Share p = share_of<V>(t);
  float *mean = dynamic_shared<float>(), *m2 = mean + t.width;
  channel_moments<V>(x, p, t.lanes, mean, m2);
  const int64_t to = (p.n * m.chunks + p.block) * m.per_image + p.first / m.channels;
  for (int part = static_cast<int>(threadIdx.x); part < p.channels / m.channels; part += kBlock) {
    const JoinedMoments joined = join_channels(mean + part * m.channels, m2 + part * m.channels, m.channels, p.rows);
    const double count = static_cast<double>(p.rows) * m.channels;
    m.mean[to + part] = static_cast<float>(joined.mean(count));
    m.m2[to + part] = static_cast<float>(joined.m2(count));
  }
}

// Calls result(group - first, moments) for the groups first .. first + groups - 1 of image n. Every thread must call;
// of its `lanes` times kBlock / lanes threads, each row takes one chunk after the other.
template <int kAhead, class Result>
__device__ void join_chunks(const ChunkMoments& m, int64_t n, int first, int groups, int lanes, Result result) {
  const int slot = static_cast<int>(threadIdx.x) / lanes;
  for (int from = 0; from < groups; from += lanes) {
    const int group = from + static_cast<int>(threadIdx.x) % lanes;
    const int64_t part = n * m.chunks * m.per_image + (first + group) * int64_t{m.parts};
    JoinedMoments joined{0};
    if (group < groups && m.chunks > 0) {
      joined.shift = static_cast<double>(m.mean[part]);
      const int step = kBlock / lanes;
      for (int first_chunk = slot; first_chunk < m.chunks; first_chunk += kAhead * step)
        for (int i = 0; i < m.parts; ++i) {
          float mean[kAhead], m2[kAhead];
#pragma unroll
          for (int u = 0; u < kAhead; ++u) {
            const int chunk = first_chunk + u * step;
            const int64_t at = part + int64_t{chunk < m.chunks ? chunk : first_chunk} * m.per_image + i;
            mean[u] = m.mean[at];
            m2[u] = m.m2[at];
          }
#pragma unroll
          for (int u = 0; u < kAhead; ++u) {
            const int chunk = first_chunk + u * step;
            if (chunk < m.chunks)
              joined.add((chunk + 1 < m.chunks ? m.rows : m.last_rows) * m.channels, mean[u], m2[u]);
          }
        }
    }
    double sums[2] = {joined.sum, joined.squares};
    slot_sum(sums, lanes);
    joined.sum = sums[0], joined.squares = sums[1];
    if (slot == 0 && group < groups) result(group, joined);
  }
}

struct Running {
  float momentum;
  float *mean, *var;
};

// blockIdx.x: kMomentLanes groups; blockIdx.y: image.
__global__ void __launch_bounds__(kBlock)
    join_moments_kernel(const ChunkMoments m, int G, const GroupStatistics to, const Running running) {
  const int first = static_cast<int>(blockIdx.x) * kMomentLanes;
  const int groups = G - first < kMomentLanes ? G - first : kMomentLanes;
  join_chunks<kJoinAhead>(m, blockIdx.y, first, groups, kMomentLanes, [&](int group, const JoinedMoments& joined) {
    const int g = first + group;
    const float mean = to.mean_of(joined);
    to.mean[int64_t{blockIdx.y} * G + g] = mean;
    to.rstd[int64_t{blockIdx.y} * G + g] = to.rstd_of(joined);
    if (running.mean == nullptr) return;
    const double m2 = joined.m2(to.count);
    const auto unbiased = static_cast<float>(to.count > 1 ? m2 / (to.count - 1) : m2 / to.count);
    running.mean[g] = (1 - running.momentum) * running.mean[g] + running.momentum * mean;
    running.var[g] = (1 - running.momentum) * running.var[g] + running.momentum * unbiased;
  });
}

template <class T, int V>
__global__ void __launch_bounds__(kBlock) forward_kernel(const Normalization<T> norm, const float* __restrict__ mean,
                                                         const float* __restrict__ rstd, const Tiling t) {
  const Share p = share_of<V>(t);
  normalize_rows<V>(norm, p, [&] {
    if (!p.any) return Affine<V>{};
    const int c = p.first + p.c;
    return affine<V>(mean + p.n * t.G, rstd + p.n * t.G, c, t.size, norm.weight + c, norm.bias + c);
  });
}

// As forward_kernel, after joining the moments of the tile's groups, `join_lanes` side by side; the first block of an
// image keeps them for the backward pass.
template <class T, int V>
__global__ void __launch_bounds__(kBlock)
    join_and_forward_kernel(const Normalization<T> norm, const ChunkMoments m, int join_lanes, const GroupStatistics to,
                            const Tiling t) {
  const Share p = share_of<V>(t);
  const int first = p.first / t.size, groups = p.channels / t.size;
  float *group_mean = dynamic_shared<float>(), *group_rstd = group_mean + groups;
  normalize_rows<V>(norm, p, [&] {
    join_chunks<kJoinAheadInPlace>(m, p.n, first, groups, join_lanes, [&](int group, const JoinedMoments& joined) {
      group_mean[group] = to.mean_of(joined);
      group_rstd[group] = to.rstd_of(joined);
      if (p.block != 0) return;
      to.mean[p.n * t.G + first + group] = group_mean[group];
      to.rstd[p.n * t.G + first + group] = group_rstd[group];
    });
    __syncthreads();
    if (!p.any) return Affine<V>{};
    const int c = p.first + p.c;
    return affine<V>(group_mean, group_rstd, p.c, t.size, norm.weight + c, norm.bias + c);
  });
}

// Per chunk and channel: sum g and sum g * x_hat.
template <class T, int V, bool kRelu>
__global__ void __launch_bounds__(kBlock)
    gradient_sums_kernel(const Gradient<T> b, const Tiling t, float* __restrict__ sum_g,
                         float* __restrict__ sum_g_x_hat) {
  const Share p = share_of<V>(t);
  const int c = p.first + p.c;
  float sums[2 * V] = {};
  Pack<V> center{}, rstd{};
  if (p.any)
    for (int k = 0; k < V; ++k) {
      const int64_t group = p.n * t.G + (c + k) / t.size;
      center[k] = b.mean[group];
      rstd[k] = b.rstd[group];
    }
  sum_gradients<V, kRelu>(b, p, t.lanes, center, sums);
  if (p.slot != 0 || !p.any) return;
  const int64_t to = (p.n * t.row_blocks + p.block) * t.C + c;
  for (int k = 0; k < V; ++k) {
    sum_g[to + k] = sums[k];
    sum_g_x_hat[to + k] = sums[V + k] * rstd[k];
  }
}

// blockIdx.y = 0: grad_bias, 1: grad_weight, kTotalLanes channels to a block. 2 + n: the averages of kJoinLanes groups
// of image n.
__global__ void __launch_bounds__(kBlock)
    gradient_totals_kernel(const float* sum_g, const float* sum_g_x_hat, const NormShape s, int chunks,
                           const GradientTotals to) {
  if (blockIdx.y < 2) {
    float* out = blockIdx.y == 0 ? to.grad_bias : to.grad_weight;
    const bool add = blockIdx.y == 0 ? to.add_bias : to.add_weight;
    if (out != nullptr) column_totals(blockIdx.y == 0 ? sum_g : sum_g_x_hat, s.N * chunks, s.C, out, add);
    return;
  }
  const int slot = static_cast<int>(threadIdx.x) / kJoinLanes, size = static_cast<int>(s.C / s.G);
  const int64_t n = blockIdx.y - 2, group = int64_t{blockIdx.x} * kJoinLanes + threadIdx.x % kJoinLanes;
  double sums[2] = {0, 0};
  if (group < s.G && size == 1) {
    const auto weight = static_cast<double>(to.weight[group]);
#pragma unroll 16
    for (int chunk = slot; chunk < chunks; chunk += kBlock / kJoinLanes) {
      const int64_t partial = (n * chunks + chunk) * s.C + group;
      sums[0] += weight * static_cast<double>(sum_g[partial]);
      sums[1] += weight * static_cast<double>(sum_g_x_hat[partial]);
    }
  } else if (group < s.G)
    for (int chunk = slot; chunk < chunks; chunk += kBlock / kJoinLanes)
#pragma unroll 8
      for (int64_t c = group * size; c < (group + 1) * size; ++c) {
        const int64_t partial = (n * chunks + chunk) * s.C + c;
        const auto weight = static_cast<double>(to.weight[c]);
        sums[0] += weight * static_cast<double>(sum_g[partial]);
        sums[1] += weight * static_cast<double>(sum_g_x_hat[partial]);
      }
  slot_sum(sums, kJoinLanes);
  if (slot != 0 || group >= s.G) return;
  to.average_g[n * s.G + group] = static_cast<float>(sums[0] / static_cast<double>(s.R * size));
  to.average_g_x_hat[n * s.G + group] = static_cast<float>(sums[1] / static_cast<double>(s.R * size));
}

// (grad_x may be grad_y: a thread writes only where it has read.)
template <class T, int V, bool kRelu>
__global__ void __launch_bounds__(kBlock)
    input_gradient_kernel(const Gradient<T> b, const Tiling t, const float* __restrict__ average_g,
                          const float* __restrict__ average_g_x_hat) {
  const Share p = share_of<V>(t);
  InputGradient<V> a{};
  for_each_row<kAheadThree>(
      p, [&](int offset) { return hold_gradient<V, kRelu>(b, p.at + offset); },
      [&] {
        for (int k = 0; p.any && k < V; ++k) {
          const int c = p.first + p.c + k;
          const int64_t group = p.n * t.G + c / t.size;
          const float rstd = b.rstd[group];
          a.slope[k] = b.weight[c] * rstd;
          a.level[k] = rstd * average_g[group];
          a.tilt[k] = rstd * rstd * average_g_x_hat[group];
          a.center[k] = b.mean[group];
        }
      },
      [&](int offset, const HeldGradient<T, V>& held) {
        store_gradient<V, kRelu>(b, p.at + offset, widened(held), a);
      });
}

// A pass that sums: a block for each chunk, tiles of whole units of channels.
Tiling chunk_tiling(const NormShape& s, int V, int64_t unit) {
  Tiling t(s, V, unit, s.C, rows_per_chunk(s.C));
  // Eight packs of a row are 128 bytes: a narrower tile would read memory in pieces too small.
  while (t.blocks() < kFill && t.width / 2 >= std::max<int64_t>(unit, 8 * V)) t.set_width(t.width / 2);
  return t;
}

// A pass that only maps: a thread has `ahead` rows, fewer where that would leave the card empty.
Tiling row_tiling(const NormShape& s, int V, int64_t unit, int ahead) {
  Tiling t(s, V, unit, s.C, 1);
  do t.set_rows(int64_t{ahead} * kBlock / t.lanes);
  while (t.blocks() < kFill && (ahead /= 2) > 0);
  t.backwards = true;
  return t;
}

template <MapType T>
void launch_moments(Cuda& cuda, const char* op, const NormShape& s, In<T> x, const ChunkMoments& m) {
  with_pack<T>(s.C, aligned(x.data()), [&](auto V) {
    const Tiling t = chunk_tiling(s, V, std::lcm(m.channels, int{V}));
    launch(moments_kernel<T, V>, t.grid(op), kBlock, 2 * sizeof(float) * t.width, cuda.stream(), x.data(), t, m);
  });
}

void require_images(const char* op, const NormShape& s) {
  require(s.N <= 65533, op, std::to_string(s.N) + " images of this size do not fit a grid");
}

void launch_join(Cuda& cuda, const char* op, const NormShape& s, const ChunkMoments& m, const GroupStatistics& to,
                 const RunningStatistics& running) {
  require_images(op, s);
  launch(join_moments_kernel, dim3(blocks_for(s.G, kMomentLanes), static_cast<unsigned>(s.N)), kBlock, 0, cuda.stream(),
         m, static_cast<int>(s.G), to, Running{running.momentum, running.mean.data(), running.var.data()});
}

}  // namespace

void launch_gradient_totals(Cuda& cuda, const char* op, const NormShape& s, int chunks, const float* sum_g,
                            const float* sum_g_x_hat, const GradientTotals& totals) {
  const bool averages = totals.average_g != nullptr;
  if (averages) require_images(op, s);
  static_assert(kJoinLanes == kTotalLanes);  // so that no more blocks are needed along G <= C
  launch(gradient_totals_kernel, dim3(blocks_for(s.C, kTotalLanes), static_cast<unsigned>(averages ? 2 + s.N : 2)),
         kBlock, 0, cuda.stream(), sum_g, sum_g_x_hat, s, chunks, totals);
}

template <MapType T>
void norm_statistics(Cuda& cuda, const char* op, const NormShape& s, const NormStatisticsPass<T>& pass) {
  check_norm_statistics(op, s, pass);
  if (s.N == 0) return;
  const ChunkMoments moments(s, pass.workspace);
  if (s.R > 0) launch_moments<T>(cuda, op, s, pass.x, moments);
  launch_join(cuda, op, s, moments, group_statistics(s, pass), pass.running);
}

template <MapType T>
void norm_forward(Cuda& cuda, const char* op, const NormShape& s, const NormForwardPass<T>& pass) {
  check_norm_forward(op, s, pass);
  if (pass.x.size() == 0) return;
  with_pack<T>(s.C, aligned(pass.x.data(), pass.y.data()), [&](auto V) {
    const Tiling t = row_tiling(s, V, V, kAheadOne);
    launch(forward_kernel<T, V>, t.grid(op), kBlock, 0, cuda.stream(), normalization_of(pass), pass.mean.data(),
           pass.rstd.data(), t);
  });
}

template <MapType T>
void norm_statistics_and_forward(Cuda& cuda, const char* op, const NormShape& s,
                                 const NormStatisticsPass<T>& statistics, const NormForwardPass<T>& forward) {
  check_norm_statistics(op, s, statistics);
  check_norm_forward(op, s, forward);
  const ChunkMoments moments(s, statistics.workspace);
  if (forward.x.size() == 0 || !moments.joined_in_place()) {
    norm_statistics(cuda, op, s, statistics);
    norm_forward(cuda, op, s, forward);
    return;
  }
  launch_moments<T>(cuda, op, s, statistics.x, moments);
  with_pack<T>(s.C, aligned(forward.x.data(), forward.y.data()), [&](auto V) {
    // Twice the rows of forward_kernel: each block reads the moments of its tile first.
    const Tiling t = row_tiling(s, V, std::lcm(s.channels_per_group(), int64_t{V}), 2 * kAheadOne);
    const int groups = t.width / t.size;
    launch(join_and_forward_kernel<T, V>, t.grid(op), kBlock, 2 * sizeof(float) * groups, cuda.stream(),
           normalization_of(forward), moments, lanes_over(groups), group_statistics(s, statistics), t);
  });
}

namespace {

template <MapType T>
void launch_input_gradient(Cuda& cuda, const char* op, const NormShape& s, const NormBackwardPass<T>& b,
                           const float* average_g, const float* average_g_x_hat) {
  const Gradient<T> gradient = gradient_of(b);
  with_pack<T>(s.C, aligned(b.x.data(), b.y.data(), b.grad_y.data(), b.grad_x.grad.data()), [&](auto V) {
    const Tiling t = row_tiling(s, V, V, kAheadThree);
    const auto kernel = b.relu() ? input_gradient_kernel<T, V, true> : input_gradient_kernel<T, V, false>;
    launch(kernel, t.grid(op), kBlock, 0, cuda.stream(), gradient, t, average_g, average_g_x_hat);
  });
}

}  // namespace

template <MapType T>
void norm_input_gradient(Cuda& cuda, const char* op, const NormShape& s, const NormBackwardPass<T>& b,
                         View<const float> average_g, View<const float> average_g_x_hat) {
  check_norm_input_gradient(op, s, b, average_g, average_g_x_hat);
  if (s.N * s.R > 0) launch_input_gradient(cuda, op, s, b, average_g.data(), average_g_x_hat.data());
}

template <MapType T>
void norm_backward(Cuda& cuda, const char* op, const NormShape& s, const NormBackwardPass<T>& b) {
  check_norm_backward<T>(op, s, b);
  const bool empty = s.N * s.R == 0;
  float* const sum_g = b.workspace.data();  // null where no sums are needed
  float* const sum_g_x_hat = sum_g + (b.needs_sums() ? s.partials() : 0);

  if (b.needs_sums() && !empty)
    with_pack<T>(s.C, aligned(b.x.data(), b.y.data(), b.grad_y.data()), [&](auto V) {
      const Tiling t = chunk_tiling(s, V, V);
      const auto kernel = b.relu() ? gradient_sums_kernel<T, V, true> : gradient_sums_kernel<T, V, false>;
      launch(kernel, t.grid(op), kBlock, 0, cuda.stream(), gradient_of(b), t, sum_g, sum_g_x_hat);
    });

  GradientTotals totals = parameter_totals(b);
  if (b.grad_x.wanted() && !empty) {
    totals.average_g = sum_g + 2 * s.partials();
    totals.average_g_x_hat = totals.average_g + s.N * s.G;
  }
  if (b.wants_params() || totals.average_g != nullptr)
    launch_gradient_totals(cuda, op, s, static_cast<int>(s.chunks()), sum_g, sum_g_x_hat, totals);

  if (b.grad_x.wanted() && !empty) launch_input_gradient(cuda, op, s, b, totals.average_g, totals.average_g_x_hat);
}

template void norm_statistics(Cuda&, const char*, const NormShape&, const NormStatisticsPass<float>&);
template void norm_forward(Cuda&, const char*, const NormShape&, const NormForwardPass<float>&);
template void norm_statistics_and_forward(Cuda&, const char*, const NormShape&, const NormStatisticsPass<float>&,
                                          const NormForwardPass<float>&);
template void norm_backward(Cuda&, const char*, const NormShape&, const NormBackwardPass<float>&);
template void norm_input_gradient(Cuda&, const char*, const NormShape&, const NormBackwardPass<float>&,
                                  View<const float>, View<const float>);

template void norm_statistics(Cuda&, const char*, const NormShape&, const NormStatisticsPass<bfloat16>&);
template void norm_forward(Cuda&, const char*, const NormShape&, const NormForwardPass<bfloat16>&);
template void norm_statistics_and_forward(Cuda&, const char*, const NormShape&, const NormStatisticsPass<bfloat16>&,
                                          const NormForwardPass<bfloat16>&);
template void norm_backward(Cuda&, const char*, const NormShape&, const NormBackwardPass<bfloat16>&);
template void norm_input_gradient(Cuda&, const char*, const NormShape&, const NormBackwardPass<bfloat16>&,
                                  View<const float>, View<const float>);

}  // namespace gradlibra::kernels
