// SPDX-License-Identifier: MIT
// Sorted segments on the device: a merge sort of 64-bit keys (kernels/boxes/sort_key.h), all segments of all rows at
// once. A block sorts a tile of a segment in shared memory; then pairs of sorted runs are merged until a run is a
// segment. Keys are distinct, so an element's place in a merged run is its place in its own run plus the number of
// smaller keys in the other, which a thread finds by bisection: no thread waits for another. Whatever comes behind the
// first `limit` of its run is dropped on the way, so beyond the first pass the work is that of what can still be
// chosen. (CUB's segmented sorts would order all of every segment first, and need the CUDA toolkit to be tested.)
#include "kernels/boxes/sort_scores.h"

#include <utility>

#include "kernels/boxes/sort_key.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

namespace {

constexpr int kTile = 2048;  // 16 KiB of keys
constexpr int kSortBlock = 512;
constexpr int kMergeBlock = 256;

struct Sorting {
  Segments segments;
  const float* scores;
  int32_t* order;
  int64_t E, O, limit;
  float lowest;
};

// Element `place` of the run that begins at `run` of segment s: to `keys`, or to the result once that run is the
// segment.
__device__ void put(const Sorting& sorting, const Segment& s, int64_t n, int64_t run, int64_t place, uint64_t key,
                    uint64_t* keys) {
  if (keys != nullptr)
    keys[n * sorting.E + s.first + run + place] = key;
  else
    sorting.order[n * sorting.O + s.sorted_first + place] = sorted_index(key);
}

// Batcher's bitonic sort of `size` keys, a power of two, by the whole block.
__device__ void sort_block(uint64_t* keys, int size) {
  for (int length = 2; length <= size; length *= 2)
    for (int distance = length / 2; distance > 0; distance /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < size / 2; pair += kSortBlock) {
        const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
        const uint64_t a = keys[low], b = keys[high];
        const bool ascending = (low & length) == 0;
        if ((a > b) == ascending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
}

// blockIdx.y is the segment, blockIdx.x counts the tiles of the longest one, row after row. keys null: tiles are whole
// segments.
__global__ void sort_tiles_kernel(const Sorting sorting, int tiles, uint64_t* keys) {
  __shared__ uint64_t tile[kTile];
  const Segment s = sorting.segments.at[blockIdx.y];
  const int64_t n = blockIdx.x / tiles, first = static_cast<int64_t>(blockIdx.x % tiles) * kTile;
  if (first >= s.length) return;
  const int t = static_cast<int>(threadIdx.x), size = static_cast<int>(min(s.length - first, int64_t{kTile}));
  int padded = 1;
  while (padded < size) padded *= 2;
  bool any = false;
  for (int i = t; i < padded; i += kSortBlock) {
    uint64_t key = UINT64_MAX;
    if (i < size) {
      const int64_t index = s.first + first + i;
      const float score = sorting.scores[n * sorting.E + index];
      const bool chosen = score >= sorting.lowest;
      any |= chosen;
      key = sort_key(score, static_cast<int32_t>(index), chosen);
    }
    tile[i] = key;
  }
  // Below the threshold is where most tiles are; keys that are left out already ascend.
  if (__syncthreads_or(any)) sort_block(tile, padded);
  for (int i = t; i < size && i < sorting.limit; i += kSortBlock) put(sorting, s, n, first, i, tile[i], keys);
}

// One thread for each of the first `width` elements of each run; `to` null: the merged runs are whole segments.
__global__ void merge_runs_kernel(const Sorting sorting, int blocks_per_row, int64_t run, int64_t width,
                                  const uint64_t* __restrict__ from, uint64_t* to) {
  const Segment s = sorting.segments.at[blockIdx.y];
  const int64_t n = blockIdx.x / blocks_per_row;
  const int64_t slot = static_cast<int64_t>(blockIdx.x % blocks_per_row) * kMergeBlock + threadIdx.x;
  const int64_t r = slot / width, i = slot % width, first = r * run, other = (r ^ 1) * run;
  if (first + i >= s.length) return;
  const uint64_t* segment = from + n * sorting.E + s.first;
  const uint64_t key = segment[first + i];
  int64_t low = 0, high = max(min(s.length - other, width), int64_t{0});
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (segment[other + middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  if (i + low < sorting.limit) put(sorting, s, n, first < other ? first : other, i + low, key, to);
}

}  // namespace

// Two copies of the keys: each pass reads one and writes the other.
int64_t sort_scores_workspace(const Cuda&, int64_t N, int64_t E) { return 2 * N * E; }

void sort_scores(Cuda& cuda, View<const float> scores, std::span<const int64_t> lengths, int64_t limit, float lowest,
                 View<int32_t> order, View<int64_t> workspace) {
  const int64_t N = scores.dim(0), E = scores.dim(1);
  const Segments segments =
      check_sort_scores(scores, lengths, limit, order, workspace, sort_scores_workspace(cuda, N, E));
  if (order.size() == 0) return;
  const Sorting sorting = {segments, scores.data(), order.data(), E, order.dim(1), limit, lowest};
  auto *from = reinterpret_cast<uint64_t*>(workspace.data()), *to = from + N * E;
  const auto grid = [&](int64_t blocks_per_row) {
    return dim3(static_cast<unsigned>(N * blocks_per_row), static_cast<unsigned>(segments.count));
  };
  const int tiles = static_cast<int>(blocks_for(segments.longest, kTile));
  launch(sort_tiles_kernel, grid(tiles), kSortBlock, 0, cuda.stream(), sorting, tiles, tiles == 1 ? nullptr : from);
  for (int64_t run = kTile; run < segments.longest; run *= 2) {
    const int64_t width = run < limit ? run : limit;
    const int blocks = static_cast<int>(blocks_for((segments.longest + run - 1) / run * width, kMergeBlock));
    launch(merge_runs_kernel, grid(blocks), kMergeBlock, 0, cuda.stream(), sorting, blocks, run, width, from,
           2 * run >= segments.longest ? nullptr : to);
    std::swap(from, to);
  }
}

}  // namespace gradlibra::kernels
