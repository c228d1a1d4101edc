// SPDX-License-Identifier: MIT
// Device side: which samples of a deformable convolution have a pixel among their corners, sorted by number, for every
// pixel of the map, as a gather needs them.
//   1. Bin (n, y0, x0) counts the samples whose upper left corner is that pixel, y0 and x0 from -1 on. One bin for
//      four corners: a quarter of the atomics and of the memory that a list per pixel would take.
//   2. An exclusive scan turns the counts into where each bin's list begins.
//   3. Every sample enters itself into its bin's list at an integer cursor: the order within a list is arbitrary.
//   4. A warp per pixel reads the four bins around it, sorts, and notes each sample's corner and weight.
// The sort is by bitmap: a sample sets the bit of its number in a window of kWindow numbers, and bits are read in
// order. The usual list (36 samples of the cells around, a few rows of the map) lies in one window. A list of any
// length takes the same path: n samples cost n / 32 steps for every window of their image that is not empty.
//
// Words: a sample is a tap of a cell, by its number (kernels/convolution/deform_im2col.h); a slot, 4 * sample + corner,
// is where something of a sample and one of its corners is kept, not a thread's place as in channel_norm.cuh; a slab,
// in deform_im2col.cu, is the channels of a pixel that one warp takes: a pack for each lane.
#pragma once

#include <climits>

#include "kernels/block_sum.cuh"
#include "kernels/convolution/sample_position.cuh"

namespace gradlibra::kernels::deform {

namespace {

constexpr int kWarp = 32;
constexpr int kWarps = kBlock / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPerThread = 8;  // neighbouring counts that a thread scans
constexpr int kTile = kBlock * kPerThread;
constexpr int kWindow = 8192;  // sample numbers that a warp sorts at a time, a bit each
constexpr int kWords = kWindow / 32;
constexpr int kLaneWords = kWords / kWarp;
constexpr int kSorted = 64;  // samples of a window that are worked on at a time

// Sorted samples, those of a pixel at sorted_of(pixel, begins, sizes), as slots. Corners are in the order (y0, x0),
// (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1); a weight, the pixel's in the sample, is a float's bits. Samples of
// weight 0 are there too, because the slope of a sample at a whole position has all four corners.
struct SortedSamples {
  const int *begins, *slots, *weights;
};

struct Pixel {
  int n, y, x;
};

__device__ Pixel pixel_at(int64_t index, const Sizes& s) {
  const int line = static_cast<int>(index) / s.W, n = line / s.H;
  return {n, line - n * s.H, static_cast<int>(index) - line * s.W};
}

// A pixel's among the sorted samples. From a pixel to the next in its row `begin` moves by what the pixel's two bins of
// either row of bins hold, so that each has room for its own; between rows of the map are gaps, and it stays below 4
// times the number of samples. `begins` has one element per bin and one more.
struct Range {
  int64_t begin;
  int size;
};
__device__ Range sorted_of(const Pixel& p, const int* __restrict__ begins, const Sizes& s) {
  const int* upper = begins + (p.n * (s.H + 1) + p.y) * (s.W + 1) + p.x;
  const int* lower = upper + s.W + 1;
  return {int64_t{upper[0]} + upper[1] + lower[0] + lower[1], upper[2] - upper[0] + (lower[2] - lower[0])};
}

// Bins (N, H + 1, W + 1): row and column 0 are those of y0 = -1 and x0 = -1. -1 for a sample outside.
__device__ int bin_of(const float* __restrict__ offsets, int sample, const Sizes& s) {
  const Position p = position_of(offsets, sample, s);
  return p.inside ? (static_cast<int>(p.n) * (s.H + 1) + p.y0 + 1) * (s.W + 1) + p.x0 + 1 : -1;
}

__global__ void __launch_bounds__(kBlock)
    count_kernel(const float* __restrict__ offsets, int* __restrict__ counts, const Sizes s) {
  const int64_t sample = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (sample >= s.samples) return;
  const int bin = bin_of(offsets, static_cast<int>(sample), s);
  if (bin >= 0) atomicAdd(counts + bin, 1);
}

// Exclusive over the block. All threads must call.
__device__ int block_scan(int value) {
  __shared__ int warp_totals[kWarps];
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  int sum = value;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
    if (lane >= distance) sum += before;
  }
  if (lane == kWarp - 1) warp_totals[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warp_totals[w];
  return sum - value;
}

__global__ void __launch_bounds__(kBlock)
    tile_sums_kernel(const int* __restrict__ values, int64_t size, int* __restrict__ tile_sums) {
  const int64_t first = int64_t{blockIdx.x} * kTile;
  int sum = 0;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t i = first + k * kBlock + threadIdx.x;
    if (i < size) sum += values[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) tile_sums[blockIdx.x] = sum;
}

// Exclusive, in place. A block adds up the tiles before its own: there are few.
__global__ void __launch_bounds__(kBlock)
    scan_kernel(int* __restrict__ values, int64_t size, const int* __restrict__ tile_sums) {
  int before = 0;
  for (unsigned tile = threadIdx.x; tile < blockIdx.x; tile += kBlock) before += tile_sums[tile];
  before = block_sum(before);
  const int64_t first = int64_t{blockIdx.x} * kTile + static_cast<int64_t>(threadIdx.x) * kPerThread;
  int own[kPerThread], sum = 0;
  for (int k = 0; k < kPerThread; ++k) {
    own[k] = first + k < size ? values[first + k] : 0;
    sum += own[k];
  }
  int next = before + block_scan(sum);
  for (int k = 0; k < kPerThread; ++k) {
    if (first + k < size) values[first + k] = next;
    next += own[k];
  }
}

// cursors[bin] begins where the bin's list does and ends where the next one begins.
__global__ void __launch_bounds__(kBlock)
    enter_kernel(const float* __restrict__ offsets, int* __restrict__ cursors, int* __restrict__ lists, const Sizes s) {
  const int64_t sample = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (sample >= s.samples) return;
  const int bin = bin_of(offsets, static_cast<int>(sample), s);
  if (bin >= 0) lists[atomicAdd(cursors + bin, 1)] = static_cast<int>(sample);
}

__device__ int warp_min(int value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = min(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// The samples around a pixel, unsorted: bins that are neighbours in a row have neighbouring lists, so there are two
// pieces.
struct Neighbours {
  const int *upper, *lower;
  int upper_size, size;
  __device__ int operator[](int i) const { return i < upper_size ? upper[i] : lower[i - upper_size]; }
};

__device__ Neighbours neighbours_of(const Pixel& p, const int* __restrict__ begins, const int* __restrict__ lists,
                                    const Sizes& s) {
  const int* upper = begins + (p.n * (s.H + 1) + p.y) * (s.W + 1) + p.x;
  const int* lower = upper + s.W + 1;
  const int upper_size = upper[2] - upper[0];
  return {lists + upper[0], lists + lower[0], upper_size, upper_size + lower[2] - lower[0]};
}

// A warp's shared memory. Between windows all bits are 0.
struct Sorter {
  unsigned bits[kWords];
  int samples[kSorted];
};

// A lane's share of a window, kLaneWords neighbouring words, and how far it has been read.
struct Reader {
  const unsigned* words;
  int first;          // the place in the window of the next word's lowest bit
  unsigned word = 0;  // what is left of the word before
  int place, left;    // of the next sample among the sorted; samples to come
  // The next bit's number.
  __device__ int next() {
    while (word == 0) {
      word = *words++;
      first += 32;
    }
    const int bit = __ffs(static_cast<int>(word)) - 1;
    word &= word - 1;
    ++place;
    --left;
    return first - 32 + bit;
  }
};

// A sample's weight at a pixel, its mask (may be null) included, and which of its corners the pixel is.
struct Touch {
  float weight = 0;
  int corner = 0;
};
__device__ Touch touch(const float* __restrict__ offsets, const float* __restrict__ mask, const Pixel& pixel,
                       int sample, const Sizes& s) {
  const Position p = position_of(offsets, sample, s);
  const int a = pixel.y - p.y0, b = pixel.x - p.x0;
  const float m = mask == nullptr ? 1 : mask[sample];
  return {m * p.weight(a, b), 2 * a + b};
}

// Calls use(size) with the samples around a pixel in ascending order, in `size` > 0 of sorter.samples at a time. All
// lanes must call.
template <class Use>
__device__ void for_sorted(const Neighbours& around, Sorter& sorter, Use use) {
  const int lane = threadIdx.x % kWarp;
  unsigned* lane_bits = sorter.bits + lane * kLaneWords;
  for (int k = 0; k < kLaneWords; ++k) lane_bits[k] = 0;
  int low = INT_MAX;
  for (int i = lane; i < around.size; i += kWarp) low = min(low, around[i]);
  low = warp_min(low);
  while (low != INT_MAX) {
    __syncwarp();
    int next_low = INT_MAX;
    for (int i = lane; i < around.size; i += kWarp) {
      const int sample = around[i], bit = sample - low;
      if (bit >= kWindow)
        next_low = min(next_low, sample);
      else if (bit >= 0)
        atomicOr(sorter.bits + bit / 32, 1u << bit % 32);
    }
    __syncwarp();
    Reader reader{lane_bits, lane * kLaneWords * 32, 0, 0, 0};
    for (int k = 0; k < kLaneWords; ++k) reader.left += __popc(lane_bits[k]);
    int total = reader.left;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int before = __shfl_up_sync(kAllLanes, total, static_cast<unsigned>(distance));
      if (lane >= distance) total += before;
    }
    reader.place = total - reader.left;
    total = __shfl_sync(kAllLanes, total, kWarp - 1);

    for (int begin = 0; begin < total; begin += kSorted) {
      while (reader.left > 0 && reader.place < begin + kSorted) {
        const int place = reader.place - begin;
        sorter.samples[place] = low + reader.next();
      }
      __syncwarp();
      use(min(kSorted, total - begin));
      __syncwarp();
    }
    for (int k = 0; k < kLaneWords; ++k) lane_bits[k] = 0;
    low = warp_min(next_low);
  }
}

// A warp sorts and weighs the samples of a pixel.
__global__ void __launch_bounds__(kBlock)
    sort_kernel(const float* __restrict__ offsets, const float* __restrict__ mask, const int* __restrict__ begins,
                const int* __restrict__ lists, int* __restrict__ slots, int* __restrict__ weights, int64_t pixels,
                const Sizes s) {
  __shared__ Sorter sorters[kWarps];
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t index = int64_t{blockIdx.x} * kWarps + warp;
  if (index >= pixels) return;
  const Pixel pixel = pixel_at(index, s);
  Sorter& sorter = sorters[warp];
  const Neighbours around = neighbours_of(pixel, begins, lists, s);
  int64_t to = sorted_of(pixel, begins, s).begin;
  for_sorted(around, sorter, [&](int size) {
    for (int i = lane; i < size; i += kWarp) {
      const int sample = sorter.samples[i];
      const Touch t = touch(offsets, mask, pixel, sample, s);
      slots[to + i] = 4 * sample + t.corner;
      weights[to + i] = __float_as_int(t.weight);
    }
    to += size;
  });
}

// Sorts into `workspace`, deform_im2col_workspace values, or says where an earlier call with the same offsets, mask and
// sizes has put what is `sorted` already.
SortedSamples sort_samples(Cuda& cuda, const DeformDims& d, View<const float> offsets, View<const float> mask,
                           View<int32_t> workspace, bool sorted) {
  const Sizes s = sizes(d);
  const int64_t bins = d.N * (d.H + 1) * (d.W + 1), pixels = d.N * d.H * d.W;
  int* begins = workspace.data();
  int* lists = begins + bins + 1;
  int *slots = lists + s.samples, *weights = slots + 4 * s.samples;
  if (sorted) return {begins, slots, weights};
  // begins[b] is where bin b's list begins. It is counted, scanned and advanced one element further on: the end of each
  // list is then where the next one begins.
  // tile_sums is used before the lists are, and shorter: a pixel has at most four bins and at least one sample.
  int* tile_sums = lists;
  const unsigned sample_blocks = blocks_for(s.samples, kBlock), tiles = blocks_for(bins, kTile);
  check(cudaMemsetAsync(begins, 0, static_cast<size_t>(bins + 1) * sizeof(int), cuda.stream()));
  launch(count_kernel, sample_blocks, kBlock, 0, cuda.stream(), offsets.data(), begins + 1, s);
  launch(tile_sums_kernel, tiles, kBlock, 0, cuda.stream(), begins + 1, bins, tile_sums);
  launch(scan_kernel, tiles, kBlock, 0, cuda.stream(), begins + 1, bins, tile_sums);
  launch(enter_kernel, sample_blocks, kBlock, 0, cuda.stream(), offsets.data(), begins + 1, lists, s);
  launch(sort_kernel, blocks_for(pixels, kWarps), kBlock, 0, cuda.stream(), offsets.data(), mask.data(), begins, lists,
         slots, weights, pixels, s);
  return {begins, slots, weights};
}

}  // namespace

}  // namespace gradlibra::kernels::deform
