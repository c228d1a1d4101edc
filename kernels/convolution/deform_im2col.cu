// SPDX-License-Identifier: MIT
// Deformable columns on the GPU.
//
// Forward and backward_offsets: a block owns kRun consecutive samples (taps of neighbouring cells, whose corners are
// mostly the same pixels, so that L1 serves them). Each sample's position is worked out once, by one thread, into
// shared memory; then a group of threads takes one sample at a time, a thread 16 bytes of its channels in turn. Forward
// such a group is a warp, with one sample of 256 bfloat16. For offsets it is eight threads: each sample costs a sum
// over its group, which four groups of a warp share, and their 16 bytes still are a line of memory (on an H100, P3 in
// bfloat16, 0.33 ms; 0.44 with a warp, forward 0.32 and 0.29).
//
// backward_data is a gather: a scatter would need atomics on every channel, and floating-point ones add in the order of
// arrival.
//   1. Bin (n, y0, x0) counts the samples whose upper left corner is that pixel, y0 and x0 from -1 on. One bin for
//      four corners: a quarter of the atomics and of the memory that a list per pixel would take.
//   2. An exclusive scan turns the counts into where each bin's list begins.
//   3. Every sample enters itself into its bin's list at an integer cursor: the order within a list is arbitrary.
//   4. A warp per pixel reads the four bins around it, sorts, and adds weight * grad_columns in the contract's order.
// Where the offsets' gradient is wanted too (deform_im2col_backward), sorting is a kernel of its own, whose results
// serve every convolution that samples at these points. The warp of a pixel then also notes the product of each
// sample's gradient with the pixel, a number per corner of a sample, and a last kernel makes slopes of them: columns'
// gradients, nine times the map, are read by one kernel instead of two.
// The sort is by bitmap: a sample sets the bit of its number in a window of kWindow numbers, and bits are read in
// order. The usual list (36 samples of the cells around, a few rows of the map) lies in one window. A list of any
// length takes the same path: n samples cost n / 32 steps for every window of their image that is not empty, beside the
// n additions.
#include <algorithm>
#include <climits>
#include <cmath>

#include "kernels/block_sum.cuh"
#include "kernels/convolution/deform_im2col.h"
#include "kernels/convolution/deform_sample.cuh"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

using namespace deform;

constexpr int kWarp = 32;
constexpr int kWarps = kBlock / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kRun = 96;         // samples of a block: three for each group of eight threads, twelve for a warp
constexpr int kOffsetLanes = 8;  // threads of a group of backward_offsets
constexpr int kPerThread = 8;    // neighbouring counts that a thread scans
constexpr int kTile = kBlock * kPerThread;
constexpr int kWindow = 8192;  // sample numbers that a warp sorts at a time, a bit each
constexpr int kWords = kWindow / 32;
constexpr int kLaneWords = kWords / kWarp;
constexpr int kSorted = 64;   // samples of a window whose weights are worked out, then added, at a time
constexpr int kTogether = 4;  // of them, whose products with a pixel are summed together
static_assert(kSorted % kTogether == 0);
constexpr int kGatherBlocks = 3;  // of gather_sorted_kernel that share a multiprocessor

// A position as the threads of a group need it: the first channel of each corner, -1 outside the map, corners in the
// order (y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1).
struct Tap {
  int64_t corner[4];
  float weight[4];
  float ly, lx;
  int inside;
};

// Fills taps[i] for samples first + i of this block and returns their number. All threads must call.
__device__ int fill_taps(const float* __restrict__ offsets, int64_t first, const Sizes& s, Tap* taps) {
  const int count = static_cast<int>(min(int64_t{kRun}, s.samples - first));
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock) {
    const Position p = position_of(offsets, first + i, s);
    Tap& tap = taps[i];
    for (int k = 0; k < 4; ++k) {
      const int a = k / 2, b = k % 2, y = p.y0 + a, x = p.x0 + b;
      const bool there = p.inside && y >= 0 && y < s.H && x >= 0 && x < s.W;
      tap.corner[k] = there ? ((p.n * s.H + y) * s.W + x) * s.C : -1;
      tap.weight[k] = p.weight(a, b);
    }
    tap.ly = p.ly;
    tap.lx = p.lx;
    tap.inside = p.inside ? 1 : 0;
  }
  __syncthreads();
  return count;
}

// V channels of the four corners from channel c on, 0 outside the map.
template <class T, int V>
struct Corners {
  Pack<V> at[4];
  __device__ Corners(const T* __restrict__ x, const Tap& tap, int64_t c) {
#pragma unroll
    for (int k = 0; k < 4; ++k) at[k] = tap.corner[k] < 0 ? Pack<V>{} : load<V>(x + tap.corner[k] + c);
  }
};

// The groups of a block: `lanes`, a power of two, threads each.
template <class T, int V>
__global__ void __launch_bounds__(kBlock)
    deform_im2col_kernel(const T* __restrict__ x, const float* __restrict__ offsets, T* __restrict__ columns, int lanes,
                         const Sizes s) {
  __shared__ Tap taps[kRun];
  const int64_t first = int64_t{blockIdx.x} * kRun;
  const int count = fill_taps(offsets, first, s, taps);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (lanes - 1);
  for (int i = thread / lanes; i < count; i += kBlock / lanes)
#pragma unroll 2
    for (int64_t c = lane * V; c < s.C; c += lanes * V) {
      const Corners<T, V> v(x, taps[i], c);
      Pack<V> sum{};
      for (int k = 0; k < 4; ++k)
        for (int l = 0; l < V; ++l) sum[l] += taps[i].weight[k] * v.at[k][l];
      store<V>(columns + (first + i) * s.C + c, sum);
    }
}

// The sample is v00 + ly (v10 - v00) + lx (v01 - v00) + ly lx (v11 - v01 - v10 + v00): three sums over channels give
// both derivatives. A thread adds its channels in ascending order, then a group its threads in a tree.
template <class T, int V>
__global__ void __launch_bounds__(kBlock)
    deform_im2col_backward_offsets_kernel(const T* __restrict__ x, const float* __restrict__ offsets,
                                          const T* __restrict__ grad_columns, float* __restrict__ grad_offsets,
                                          int lanes, bool add, const Sizes s) {
  __shared__ Tap taps[kRun];
  const int64_t first = int64_t{blockIdx.x} * kRun;
  const int count = fill_taps(offsets, first, s, taps);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (lanes - 1), group = thread / lanes;
  // All lanes of a warp go round equally often: the shuffles are for whole warps.
  for (int begin = 0; begin < count; begin += kBlock / lanes) {
    const int i = begin + group;
    float along_y = 0, along_x = 0;
    if (i < count && taps[i].inside != 0) {
      float both = 0;
#pragma unroll 2
      for (int64_t c = lane * V; c < s.C; c += lanes * V) {
        const Corners<T, V> v(x, taps[i], c);
        const Pack<V> g = load<V>(grad_columns + (first + i) * s.C + c);
        for (int l = 0; l < V; ++l) {
          const float dy = v.at[2][l] - v.at[0][l];
          along_y += g[l] * dy;
          along_x += g[l] * (v.at[1][l] - v.at[0][l]);
          both += g[l] * ((v.at[3][l] - v.at[1][l]) - dy);
        }
      }
      along_y += taps[i].lx * both;
      along_x += taps[i].ly * both;
    }
    for (int half = lanes / 2; half > 0; half /= 2) {
      along_y += __shfl_down_sync(kAllLanes, along_y, half, lanes);
      along_x += __shfl_down_sync(kAllLanes, along_x, half, lanes);
    }
    if (lane == 0 && i < count) {
      float* out = grad_offsets + 2 * (first + i);
      out[0] = add ? out[0] + along_y : along_y;
      out[1] = add ? out[1] + along_x : along_x;
    }
  }
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

// Where a pixel's sorted samples begin. From a pixel to the next in its row this moves by what the pixel's two bins of
// either row of bins hold, so that each has room for its own; between rows of the map are gaps, and it stays below 4
// times the number of samples.
__device__ int64_t begin_of(const int* upper, const int* lower) {
  return int64_t{upper[0]} + upper[1] + lower[0] + lower[1];
}

// The samples around a pixel, unsorted: bins that are neighbours in a row have neighbouring lists, so there are two
// pieces.
struct Neighbours {
  const int *upper, *lower;
  int upper_size, size;
  int64_t begin;  // of the sorted ones
  __device__ int operator[](int i) const { return i < upper_size ? upper[i] : lower[i - upper_size]; }
};

struct Pixel {
  int n, y, x;
};

// `begins` has one element per bin and one more.
__device__ Neighbours neighbours_of(const Pixel& p, const int* __restrict__ begins, const int* __restrict__ lists,
                                    const Sizes& s) {
  const int* upper = begins + (p.n * (s.H + 1) + p.y) * (s.W + 1) + p.x;
  const int* lower = upper + s.W + 1;
  const int upper_size = upper[2] - upper[0];
  return {lists + upper[0], lists + lower[0], upper_size, upper_size + lower[2] - lower[0], begin_of(upper, lower)};
}

// Samples that a warp is about to add.
struct alignas(16) Batch {
  int samples[kSorted];
  float weights[kSorted];
  int slots[kSorted];  // of their products
};

// A warp's shared memory. Between windows all bits are 0.
struct Sorter {
  unsigned bits[kWords];
  int samples[kSorted];
  float weights[kSorted];
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

// A sample's weight at a pixel, and which of its corners the pixel is.
struct Touch {
  float weight = 0;
  int corner = 0;
};
__device__ Touch touch(const float* __restrict__ offsets, const Pixel& pixel, int sample, const Sizes& s) {
  const Position p = position_of(offsets, sample, s);
  const int a = pixel.y - p.y0, b = pixel.x - p.x0;
  return {p.weight(a, b), 2 * a + b};
}

// Replaces the first `size` samples by those with a weight at the pixel, in the same order, and returns their number.
__device__ int weigh(const float* __restrict__ offsets, const Pixel& pixel, int size, Sorter& sorter, const Sizes& s) {
  const int lane = threadIdx.x % kWarp;
  int kept = 0;
  for (int begin = 0; begin < size; begin += kWarp) {
    int sample = 0;
    float weight = 0;
    if (begin + lane < size) {
      sample = sorter.samples[begin + lane];
      weight = touch(offsets, pixel, sample, s).weight;
    }
    const unsigned keep = __ballot_sync(kAllLanes, weight != 0 ? 1 : 0);
    __syncwarp();
    if (weight != 0) {
      const int place = kept + __popc(keep & ((1u << lane) - 1));
      sorter.samples[place] = sample;
      sorter.weights[place] = weight;
    }
    kept += __popc(keep);
  }
  __syncwarp();
  return kept;
}

// Sums of four values over a warp at once: lanes 8 k .. 8 k + 7 get that of values[k]. Each step halves what a lane
// still carries: 6 shuffles where four sums by themselves take 20.
__device__ float warp_sum_of_four(const float (&values)[4]) {
  const int lane = threadIdx.x % kWarp;
  const bool upper = (lane & 16) != 0, second = (lane & 8) != 0;
  float pair[2];
  for (int k = 0; k < 2; ++k) {
    const float mine = upper ? values[2 + k] : values[k], other = upper ? values[k] : values[2 + k];
    pair[k] = mine + __shfl_xor_sync(kAllLanes, other, 16);
  }
  float sum = (second ? pair[1] : pair[0]) + __shfl_xor_sync(kAllLanes, second ? pair[0] : pair[1], 8);
  for (int distance = 4; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  return sum;
}

// What the gradient of the offsets needs beside: products[4 * sample + corner] = sum over the slab's channels of
// grad_columns * x at that corner.
template <class T>
struct Products {
  const T* x;
  float* at;  // [slab][sample][corner]
};

// Adds `size` samples of the batch to `sum` and notes their products with the pixel. All lanes must call; `owner` are
// those that have channels, from c on.
template <class T, int V>
__device__ void add_with_products(const T* __restrict__ grad_columns, const Batch& batch, int size, bool owner,
                                  int64_t c, const Pack<V>& x, float* __restrict__ products, Pack<V>& sum) {
  const int lane = threadIdx.x % kWarp;
  const T* from = grad_columns + (owner ? c : 0);
  for (int begin = 0; begin < size; begin += kTogether) {
    const int4 q = *reinterpret_cast<const int4*>(batch.samples + begin);
    const int rows[kTogether] = {q.x, q.y, q.z, q.w};
    const Pack<4> weights = load<4>(batch.weights + begin);
    Pack<V> g[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) g[u] = load<V>(from + int64_t{rows[u]} * V);
    float dots[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      float dot = 0;
      for (int l = 0; l < V; ++l) dot += g[u][l] * x[l];
      dots[u] = owner ? dot : 0;
    }
    // 0 times a NaN is none.
    if (weights[0] != 0 && weights[1] != 0 && weights[2] != 0 && weights[3] != 0) {
#pragma unroll
      for (int u = 0; u < kTogether; ++u)
        for (int l = 0; l < V; ++l) sum[l] += weights[u] * g[u][l];
    } else {
#pragma unroll
      for (int u = 0; u < kTogether; ++u)
        if (weights[u] != 0)
          for (int l = 0; l < V; ++l) sum[l] += weights[u] * g[u][l];
    }
    const float dot = warp_sum_of_four(dots);
    const int mine = begin + lane / 8;
    if (lane % 8 == 0 && mine < size) products[batch.slots[mine]] = dot;
  }
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

__device__ Pixel pixel_at(int64_t index, const Sizes& s) {
  const int line = static_cast<int>(index) / s.W, n = line / s.H;
  return {n, line - n * s.H, static_cast<int>(index) - line * s.W};
}

// A warp takes a pixel and kWarp packs of its channels, `slabs` of them per pixel.
template <class T, int V>
__global__ void __launch_bounds__(kBlock)
    gather_kernel(const float* __restrict__ offsets, const T* __restrict__ grad_columns, const int* __restrict__ begins,
                  const int* __restrict__ lists, T* __restrict__ grad_x, int64_t pixels, int slabs, bool add,
                  const Sizes s) {
  __shared__ Sorter sorters[kWarps];
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t task = int64_t{blockIdx.x} * kWarps + warp, index = divide(task, slabs);
  if (index >= pixels) return;
  const Pixel pixel = pixel_at(index, s);
  const int64_t c = ((task - index * slabs) * kWarp + lane) * V;
  const bool owner = c < s.C;
  Sorter& sorter = sorters[warp];

  Pack<V> sum{};
  if (add && owner) sum = load<V>(grad_x + index * s.C + c);
  for_sorted(neighbours_of(pixel, begins, lists, s), sorter, [&](int size) {
    const int kept = weigh(offsets, pixel, size, sorter, s);
    if (owner)
#pragma unroll 4
      for (int i = 0; i < kept; ++i) {
        const Pack<V> g = load<V>(grad_columns + int64_t{sorter.samples[i]} * s.C + c);
        for (int l = 0; l < V; ++l) sum[l] += sorter.weights[i] * g[l];
      }
  });
  if (owner) store<V>(grad_x + index * s.C + c, sum);
}

// A warp sorts and weighs the samples of a pixel for gather_sorted_kernel: those of weight 0 too, because the slope of
// a sample at a whole position has all four corners.
__global__ void __launch_bounds__(kBlock)
    sort_kernel(const float* __restrict__ offsets, const int* __restrict__ begins, const int* __restrict__ lists,
                int* __restrict__ slots, int* __restrict__ weights, int64_t pixels, const Sizes s) {
  __shared__ Sorter sorters[kWarps];
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t index = int64_t{blockIdx.x} * kWarps + warp;
  if (index >= pixels) return;
  const Pixel pixel = pixel_at(index, s);
  Sorter& sorter = sorters[warp];
  const Neighbours around = neighbours_of(pixel, begins, lists, s);
  int64_t to = around.begin;
  for_sorted(around, sorter, [&](int size) {
    for (int i = lane; i < size; i += kWarp) {
      const int sample = sorter.samples[i];
      const Touch t = touch(offsets, pixel, sample, s);
      slots[to + i] = 4 * sample + t.corner;
      weights[to + i] = __float_as_int(t.weight);
    }
    to += size;
  });
}

// Fills a batch with `size` > 0 sorted samples. Of a sample stays where its row of gradients begins, in packs, of which
// a row has `row`. Up to a multiple of kTogether follows the first one again, with weight 0.
__device__ void fill_batch(const int* __restrict__ slots, const int* __restrict__ weights, int size, int row,
                           Batch& batch) {
  for (int i = threadIdx.x % kWarp; i < (size + kTogether - 1) / kTogether * kTogether; i += kWarp) {
    const int slot = slots[i < size ? i : 0];
    batch.samples[i] = (slot >> 2) * row;
    batch.slots[i] = slot;
    batch.weights[i] = i < size ? __int_as_float(weights[i]) : 0;
  }
  __syncwarp();
}

// As gather_kernel, from sorted samples, and with the products that the offsets' gradient is made of.
template <class T, int V>
__global__ void __launch_bounds__(kBlock, kGatherBlocks)
    gather_sorted_kernel(const T* __restrict__ grad_columns, const int* __restrict__ begins,
                         const int* __restrict__ slots, const int* __restrict__ weights, T* __restrict__ grad_x,
                         int64_t pixels, int slabs, bool add, const Products<T> products, const Sizes s) {
  __shared__ Batch batches[kWarps];
  const int lane = threadIdx.x % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t task = int64_t{blockIdx.x} * kWarps + warp, index = divide(task, slabs);
  if (index >= pixels) return;
  const int64_t slab = task - index * slabs, c = (slab * kWarp + lane) * V;
  const bool owner = c < s.C;
  Pack<V> sum{}, x{};
  if (owner) {
    if (add) sum = load<V>(grad_x + index * s.C + c);
    x = load<V>(products.x + index * s.C + c);
  }
  const Neighbours around = neighbours_of(pixel_at(index, s), begins, nullptr, s);
  Batch& batch = batches[warp];
  for (int first = 0; first < around.size; first += kSorted) {
    const int size = min(kSorted, around.size - first);
    fill_batch(slots + around.begin + first, weights + around.begin + first, size, s.C / V, batch);
    add_with_products<T, V>(grad_columns, batch, size, owner, c, x, products.at + 4 * slab * s.samples, sum);
    __syncwarp();
  }
  if (owner) store<V>(grad_x + index * s.C + c, sum);
}

// The offsets' gradient from the products, which pixels outside the map have none of.
__global__ void __launch_bounds__(kBlock)
    offsets_from_products_kernel(const float* __restrict__ offsets, const float* __restrict__ products, int slabs,
                                 float* __restrict__ grad_offsets, bool add, const Sizes s) {
  const int64_t sample = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (sample >= s.samples) return;
  const Position p = position_of(offsets, static_cast<int>(sample), s);
  float along_y = 0, along_x = 0;
  if (p.inside) {
    Pack<4> sums{};
    for (int slab = 0; slab < slabs; ++slab) {
      const Pack<4> part = load<4>(products + 4 * (slab * s.samples + sample));
      for (int k = 0; k < 4; ++k) {
        const int y = p.y0 + k / 2, x = p.x0 + k % 2;
        if (y >= 0 && y < s.H && x >= 0 && x < s.W) sums[k] += part[k];
      }
    }
    along_y = (1 - p.lx) * (sums[2] - sums[0]) + p.lx * (sums[3] - sums[1]);
    along_x = (1 - p.ly) * (sums[1] - sums[0]) + p.ly * (sums[3] - sums[2]);
  }
  float* out = grad_offsets + 2 * sample;
  out[0] = add ? out[0] + along_y : along_y;
  out[1] = add ? out[1] + along_x : along_x;
}

}  // namespace

template <MapType T>
void deform_im2col(Cuda& cuda, In<T> x, View<const float> offsets, int kernel, View<T> columns) {
  const Sizes s = sizes(deform_dims("deform_im2col", x.shape(), offsets.shape(), columns.shape(), kernel));
  if (columns.size() == 0) return;
  with_pack<T>(s.C, aligned(x.data(), columns.data()), [&](auto V) {
    launch(deform_im2col_kernel<T, V>, blocks_for(s.samples, kRun), kBlock, 0, cuda.stream(), x.data(), offsets.data(),
           columns.data(), lanes_for(s.C, V), s);
  });
}

template <MapType T>
void deform_im2col_backward_offsets(Cuda& cuda, In<T> x, View<const float> offsets, View<const T> grad_columns,
                                    int kernel, View<float> grad_offsets, Accumulate mode) {
  const char* op = "deform_im2col_backward_offsets";
  const Sizes s = sizes(deform_dims(op, x.shape(), offsets.shape(), grad_columns.shape(), kernel));
  require_shape(op, "grad_offsets", grad_offsets, offsets.shape());
  if (s.samples == 0) return;
  with_pack<T>(s.C, aligned(x.data(), grad_columns.data()), [&](auto V) {
    launch(deform_im2col_backward_offsets_kernel<T, V>, blocks_for(s.samples, kRun), kBlock, 0, cuda.stream(), x.data(),
           offsets.data(), grad_columns.data(), grad_offsets.data(), std::min(lanes_for(s.C, V), kOffsetLanes),
           mode == Accumulate::add, s);
  });
}

namespace {

// Where each bin's list of samples begins, and the lists, in the workspace of deform_im2col_backward_data.
struct Lists {
  int *begins, *samples;
};

void check_lists(const char* op, const DeformDims& d, const Shape& x, View<int32_t> workspace) {
  const int64_t samples = sizes(d).samples, bins = d.N * (d.H + 1) * (d.W + 1);
  require(samples <= INT32_MAX && bins <= INT32_MAX, op,
          std::to_string(samples) + " samples and " + std::to_string(bins) + " squares between pixels of x " +
              x.to_string() + ", expected fewer than 2^31 of each");
  const int64_t wanted = deform_im2col_workspace(x, d.K);
  require(workspace.size() >= wanted && workspace.data() != nullptr, op,
          "workspace has " + std::to_string(workspace.size()) + " values, expected " + std::to_string(wanted));
}

Lists list_samples(Cuda& cuda, const DeformDims& d, View<const float> offsets, View<int32_t> workspace) {
  const Sizes s = sizes(d);
  const int64_t bins = d.N * (d.H + 1) * (d.W + 1);
  // begins[b] is where bin b's list begins. It is counted, scanned and advanced one element further on: the end of each
  // list is then where the next one begins.
  int* begins = workspace.data();
  int* lists = begins + bins + 1;
  int* tile_sums =
      lists;  // used before the lists are, and shorter: a pixel has at most four bins and at least one sample
  const unsigned sample_blocks = blocks_for(s.samples, kBlock), tiles = blocks_for(bins, kTile);
  check(cudaMemsetAsync(begins, 0, static_cast<size_t>(bins + 1) * sizeof(int), cuda.stream()));
  launch(count_kernel, sample_blocks, kBlock, 0, cuda.stream(), offsets.data(), begins + 1, s);
  launch(tile_sums_kernel, tiles, kBlock, 0, cuda.stream(), begins + 1, bins, tile_sums);
  launch(scan_kernel, tiles, kBlock, 0, cuda.stream(), begins + 1, bins, tile_sums);
  launch(enter_kernel, sample_blocks, kBlock, 0, cuda.stream(), offsets.data(), begins + 1, lists, s);
  return {begins, lists};
}

// How many warps share a pixel, each with one pack of channels to a lane.
int slabs_of(int64_t C, int pack) { return static_cast<int>((C + kWarp * pack - 1) / (kWarp * pack)); }

}  // namespace

template <MapType T>
void deform_im2col_backward_data(Cuda& cuda, View<const float> offsets, In<T> grad_columns, int kernel, View<T> grad_x,
                                 Accumulate mode, View<int32_t> workspace) {
  const char* op = "deform_im2col_backward_data";
  const DeformDims d = deform_dims(op, grad_x.shape(), offsets.shape(), grad_columns.shape(), kernel);
  const Sizes s = sizes(d);
  const int64_t pixels = d.N * d.H * d.W;
  check_lists(op, d, grad_x.shape(), workspace);
  if (grad_x.size() == 0) return;
  const Lists lists = list_samples(cuda, d, offsets, workspace);
  with_pack<T>(s.C, aligned(grad_columns.data(), grad_x.data()), [&](auto V) {
    const int slabs = slabs_of(d.C, V);
    launch(gather_kernel<T, V>, blocks_for(pixels * slabs, kWarps), kBlock, 0, cuda.stream(), offsets.data(),
           grad_columns.data(), lists.begins, lists.samples, grad_x.data(), pixels, slabs, mode == Accumulate::add, s);
  });
}

template <MapType T>
bool deform_im2col_backward(Cuda& cuda, In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                            GradTarget<T> grad_x, GradTarget<> grad_offsets, View<int32_t> workspace, SampleState state,
                            View<float> products) {
  const char* op = "deform_im2col_backward";
  const DeformDims d = deform_dims(op, x.shape(), offsets.shape(), grad_columns.shape(), kernel);
  const Sizes s = sizes(d);
  require_shape(op, "grad_x", grad_x.grad, x.shape());
  require_shape(op, "grad_offsets", grad_offsets.grad, offsets.shape());
  check_lists(op, d, x.shape(), workspace);
  const int64_t wanted = deform_im2col_sorted_workspace(x.shape(), kernel);
  require(workspace.size() >= wanted, op,
          "workspace has " + std::to_string(workspace.size()) + " values, expected " + std::to_string(wanted));
  require(products.size() >= deform_im2col_products<T>(x.shape(), kernel), op,
          "products has " + std::to_string(products.size()) + " values, expected " +
              std::to_string(deform_im2col_products<T>(x.shape(), kernel)));
  constexpr int kV = kPack<T>;
  const bool packs = s.C > 0 && s.C % kV == 0 && aligned(x.data(), grad_columns.data(), grad_x.grad.data()) &&
                     aligned(products.data());
  if (!packs || s.samples == 0 || s.samples * std::max(4, s.C / kV) > INT32_MAX) {
    deform_im2col_backward_offsets<T>(cuda, x, offsets, grad_columns, kernel, grad_offsets.grad, grad_offsets.mode);
    deform_im2col_backward_data<T>(cuda, offsets, grad_columns, kernel, grad_x.grad, grad_x.mode, workspace);
    return false;
  }
  const int64_t pixels = d.N * d.H * d.W;
  int* begins = workspace.data();
  int *slots = workspace.data() + deform_im2col_workspace(x.shape(), kernel), *weights = slots + 4 * s.samples;
  if (state == SampleState::unknown) {
    const Lists lists = list_samples(cuda, d, offsets, workspace);
    launch(sort_kernel, blocks_for(pixels, kWarps), kBlock, 0, cuda.stream(), offsets.data(), lists.begins,
           lists.samples, slots, weights, pixels, s);
  }
  const int slabs = slabs_of(s.C, kV);
  launch(gather_sorted_kernel<T, kV>, blocks_for(pixels * slabs, kWarps), kBlock, 0, cuda.stream(), grad_columns.data(),
         begins, slots, weights, grad_x.grad.data(), pixels, slabs, grad_x.adds(),
         Products<T>{x.data(), products.data()}, s);
  launch(offsets_from_products_kernel, blocks_for(s.samples, kBlock), kBlock, 0, cuda.stream(), offsets.data(),
         products.data(), slabs, grad_offsets.grad.data(), grad_offsets.adds(), s);
  return true;
}

template void deform_im2col(Cuda&, View<const float>, View<const float>, int, View<float>);
template void deform_im2col(Cuda&, View<const bfloat16>, View<const float>, int, View<bfloat16>);
template void deform_im2col_backward_offsets(Cuda&, View<const float>, View<const float>, View<const float>, int,
                                             View<float>, Accumulate);
template void deform_im2col_backward_offsets(Cuda&, View<const bfloat16>, View<const float>, View<const bfloat16>, int,
                                             View<float>, Accumulate);
template void deform_im2col_backward_data(Cuda&, View<const float>, View<const float>, int, View<float>, Accumulate,
                                          View<int32_t>);
template void deform_im2col_backward_data(Cuda&, View<const float>, View<const bfloat16>, int, View<bfloat16>,
                                          Accumulate, View<int32_t>);
template bool deform_im2col_backward(Cuda&, View<const float>, View<const float>, View<const float>, int,
                                     GradTarget<float>, GradTarget<>, View<int32_t>, SampleState, View<float>);
template bool deform_im2col_backward(Cuda&, View<const bfloat16>, View<const float>, View<const bfloat16>, int,
                                     GradTarget<bfloat16>, GradTarget<>, View<int32_t>, SampleState, View<float>);

}  // namespace gradlibra::kernels
