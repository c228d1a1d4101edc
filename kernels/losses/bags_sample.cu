// SPDX-License-Identifier: MIT
// The draw on the device: the k-th smallest hash of each group, without sorting the rows. Candidates are counted by the
// first 12 bits of their hashes; those of the bin that holds the k-th, one in 4096, are collected and ranked against
// each other. Counts are integers and the collected order is of no consequence, so atomics leave nothing to chance.
// Then one thread per row marks what takes part.
#include <algorithm>
#include <string>
#include <utility>

#include "kernels/block_sum.cuh"
#include "kernels/launch.h"
#include "kernels/losses/bags_sample.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

constexpr int kBins = 4096, kBinShift = 52;
constexpr int kMarkBlocks = 256;

// Of one group. All 0 before the rows are counted, but for `prefix`.
struct Draw {
  unsigned long long prefix;  // of its hashes
  unsigned long long limit;   // the k-th smallest
  int own;                    // rows of its classes
  int k;                      // others that take part
  int bin, within;            // where the k-th is: its bin, and how many of that bin are smaller
  int collected;
  int bins[kBins];
};

struct DrawArgs {
  const int32_t* labels;
  const float* weights;
  const int32_t* group_of;
  int64_t R, C;
  int G;
  Draw* draws;                    // (G)
  int* valid;                     // rows that count
  unsigned long long* collected;  // (G, R)
  __device__ int group(int64_t i) const { return bags_group(labels[i], weights[i], group_of, C); }
};

__global__ void start_draws_kernel(const DrawArgs a, const double* __restrict__ state, int rank) {
  Draw& draw = a.draws[blockIdx.x];
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kBlock) draw.bins[b] = 0;
  if (threadIdx.x != 0) return;
  draw.prefix = bags_hash_prefix(static_cast<uint64_t>(state[0]), static_cast<uint64_t>(state[1]),
                                 static_cast<uint64_t>(rank), blockIdx.x + 1);
  draw.limit = 0;
  draw.own = draw.k = draw.bin = draw.within = draw.collected = 0;
  if (blockIdx.x == 0) *a.valid = 0;
}

// One thread per row, blocks of whole warps.
__global__ void count_candidates_kernel(const DrawArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  const int group = i < a.R ? a.group(i) : -1;
  const int valid = block_sum(group >= 0 ? 1 : 0);
  if (threadIdx.x == 0 && valid > 0) atomicAdd(a.valid, valid);
  if (group < 0) return;
  for (int g = 1; g <= a.G; ++g) {
    Draw& draw = a.draws[g - 1];
    if (g == group)
      atomicAdd(&draw.own, 1);
    else
      atomicAdd(&draw.bins[bags_hash_next(draw.prefix, static_cast<uint64_t>(i)) >> kBinShift], 1);
  }
}

// One block per group: k, and the bin that the k-th smallest is in. A thread has kBins / kBlock neighbouring bins.
__global__ void find_bin_kernel(const DrawArgs a, double beta) {
  __shared__ int before[kBlock];
  Draw& draw = a.draws[blockIdx.x];
  const int t = static_cast<int>(threadIdx.x);
  constexpr int kShare = kBins / kBlock;
  const int* bins = draw.bins + t * kShare;
  int own_share = 0;
  for (int b = 0; b < kShare; ++b) own_share += bins[b];
  before[t] = own_share;
  __syncthreads();
  if (t == 0) {
    int sum = 0;
    for (int& share : before) {
      const int next = sum + share;
      share = sum;
      sum = next;
    }
    draw.k = static_cast<int>(bags_others(beta, draw.own, *a.valid - draw.own));
  }
  __syncthreads();
  const int wanted = draw.k - 1;  // candidates that come before the k-th
  int smaller = before[t];
  if (wanted < smaller || wanted >= smaller + own_share) return;
  for (int b = 0; b < kShare; ++b) {
    if (wanted < smaller + bins[b]) {
      draw.bin = t * kShare + b;
      draw.within = wanted - smaller;
      return;
    }
    smaller += bins[b];
  }
}

__global__ void collect_kernel(const DrawArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  const int group = i < a.R ? a.group(i) : -1;
  if (group < 0) return;
  for (int g = 1; g <= a.G; ++g) {
    Draw& draw = a.draws[g - 1];
    if (g == group || draw.k == 0) continue;
    const uint64_t hash = bags_hash_next(draw.prefix, static_cast<uint64_t>(i));
    if (static_cast<int>(hash >> kBinShift) == draw.bin)
      a.collected[(g - 1) * a.R + atomicAdd(&draw.collected, 1)] = hash;
  }
}

// One block per group: the collected hash that has `within` smaller ones.
__global__ void find_limit_kernel(const DrawArgs a) {
  Draw& draw = a.draws[blockIdx.x];
  const unsigned long long* hashes = a.collected + blockIdx.x * a.R;
  for (int e = static_cast<int>(threadIdx.x); e < draw.collected; e += kBlock) {
    int smaller = 0;
    for (int other = 0; other < draw.collected; ++other) smaller += hashes[other] < hashes[e];
    if (smaller == draw.within) draw.limit = hashes[e];
  }
}

// partials (blocks, G): sums of the weights.
__global__ void mark_kernel(const DrawArgs a, uint8_t* __restrict__ sample, double* __restrict__ partials) {
  for (int g = 1; g <= a.G; ++g) {
    const Draw& draw = a.draws[g - 1];
    double sum = 0;
    for (int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x; i < a.R; i += int64_t{gridDim.x} * kBlock) {
      const int group = a.group(i);
      const bool chosen = group == g || (group >= 0 && draw.k > 0 &&
                                         bags_hash_next(draw.prefix, static_cast<uint64_t>(i)) <= draw.limit);
      sample[i * a.G + g - 1] = chosen;
      if (chosen) sum += double{a.weights[i]};
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[int64_t{blockIdx.x} * a.G + g - 1] = sum;
  }
}

// One block for each of the G + 1 sums.
__global__ void sample_sums_kernel(const double* __restrict__ partials, int64_t blocks, const int* __restrict__ valid,
                                   double* __restrict__ sums) {
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) sums[0] = *valid;
    return;
  }
  double sum = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += kBlock) sum += partials[b * (gridDim.x - 1) + blockIdx.x - 1];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

constexpr int64_t words(size_t bytes) { return static_cast<int64_t>((bytes + 7) / 8); }

}  // namespace

// The draws, the count of valid rows, the marking blocks' sums, and room for every hash of every group.
int64_t bags_sample_workspace(const Cuda&, int64_t R, int64_t G) {
  return std::max<int64_t>(1, G) * (words(sizeof(Draw)) + kMarkBlocks + R) + 1;
}

void bags_sample(Cuda& cuda, View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of,
                 double beta, View<const double> state, int rank, View<uint8_t> sample, View<double> sums,
                 View<int64_t> workspace) {
  const int64_t R = labels.size(), G = sums.size() - 1;
  check_bags_sample(labels, weights, group_of, beta, state, sample, sums, workspace, bags_sample_workspace(cuda, R, G));
  require(R <= INT32_MAX, "bags_sample", "too many rows: " + std::to_string(R));
  int64_t* place = workspace.data();
  const auto take = [&](int64_t size) { return std::exchange(place, place + size); };
  DrawArgs args = {.labels = labels.data(),
                   .weights = weights.data(),
                   .group_of = group_of.data(),
                   .R = R,
                   .C = group_of.size(),
                   .G = static_cast<int>(G),
                   .draws = reinterpret_cast<Draw*>(take(std::max<int64_t>(1, G) * words(sizeof(Draw)))),
                   .valid = reinterpret_cast<int*>(take(1)),
                   .collected = nullptr};
  auto* partials = reinterpret_cast<double*>(take(kMarkBlocks * G));
  args.collected = reinterpret_cast<unsigned long long*>(take(R * G));

  const unsigned groups = static_cast<unsigned>(std::max<int64_t>(1, G)), rows = blocks_for(R, kBlock);
  const unsigned blocks = std::min<unsigned>(kMarkBlocks, rows);
  const auto start = [&](auto kernel, unsigned grid, auto... more) {
    launch(kernel, grid, kBlock, 0, cuda.stream(), args, more...);
  };
  start(start_draws_kernel, groups, state.data(), rank);
  if (rows > 0) {
    start(count_candidates_kernel, rows);
    if (G > 0) {
      start(find_bin_kernel, static_cast<unsigned>(G), beta);
      start(collect_kernel, rows);
      start(find_limit_kernel, static_cast<unsigned>(G));
      start(mark_kernel, blocks, sample.data(), partials);
    }
  }
  launch(sample_sums_kernel, static_cast<unsigned>(G + 1), kBlock, 0, cuda.stream(), partials, int64_t{blocks},
         args.valid, sums.data());
}

}  // namespace gradlibra::kernels
