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
constexpr int kSorted = 64;  // samples of a window whose weights are worked out, then added, at a time

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

// The samples around a pixel, unsorted: bins that are neighbours in a row have neighbouring lists, so there are two
// pieces.
struct Neighbours {
  const int *upper, *lower;
  int upper_size, size;
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
  return {lists + upper[0], lists + lower[0], upper_size, upper_size + lower[2] - lower[0]};
}

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

// Replaces the first `size` samples by those with a weight at the pixel, in the same order, and returns their number.
__device__ int weigh(const float* __restrict__ offsets, const Pixel& pixel, int size, Sorter& sorter, const Sizes& s) {
  const int lane = threadIdx.x % kWarp;
  int kept = 0;
  for (int begin = 0; begin < size; begin += kWarp) {
    int sample = 0;
    float weight = 0;
    if (begin + lane < size) {
      sample = sorter.samples[begin + lane];
      const Position p = position_of(offsets, sample, s);
      weight = p.weight(pixel.y - p.y0, pixel.x - p.x0);
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
  const int line = static_cast<int>(index) / s.W, n = line / s.H;
  const Pixel pixel{n, line - n * s.H, static_cast<int>(index) - line * s.W};
  const int64_t c = ((task - index * slabs) * kWarp + lane) * V;
  const bool owner = c < s.C;
  Sorter& sorter = sorters[warp];
  unsigned* lane_bits = sorter.bits + lane * kLaneWords;
  for (int k = 0; k < kLaneWords; ++k) lane_bits[k] = 0;

  Pack<V> sum{};
  if (add && owner) sum = load<V>(grad_x + index * s.C + c);
  const Neighbours around = neighbours_of(pixel, begins, lists, s);
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
      const int kept = weigh(offsets, pixel, min(kSorted, total - begin), sorter, s);
      if (owner)
#pragma unroll 4
        for (int i = 0; i < kept; ++i) {
          const Pack<V> g = load<V>(grad_columns + int64_t{sorter.samples[i]} * s.C + c);
          for (int l = 0; l < V; ++l) sum[l] += sorter.weights[i] * g[l];
        }
      __syncwarp();
    }
    for (int k = 0; k < kLaneWords; ++k) lane_bits[k] = 0;
    low = warp_min(next_low);
  }
  if (owner) store<V>(grad_x + index * s.C + c, sum);
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

template <MapType T>
void deform_im2col_backward_data(Cuda& cuda, View<const float> offsets, In<T> grad_columns, int kernel, View<T> grad_x,
                                 Accumulate mode, View<int32_t> workspace) {
  const char* op = "deform_im2col_backward_data";
  const DeformDims d = deform_dims(op, grad_x.shape(), offsets.shape(), grad_columns.shape(), kernel);
  const Sizes s = sizes(d);
  const int64_t bins = d.N * (d.H + 1) * (d.W + 1), pixels = d.N * d.H * d.W;
  require(s.samples <= INT32_MAX && bins <= INT32_MAX, op,
          std::to_string(s.samples) + " samples and " + std::to_string(bins) + " squares between pixels of x " +
              grad_x.shape().to_string() + ", expected fewer than 2^31 of each");
  const int64_t wanted = deform_im2col_workspace(grad_x.shape(), kernel);
  require(workspace.size() >= wanted && workspace.data() != nullptr, op,
          "workspace has " + std::to_string(workspace.size()) + " values, expected " + std::to_string(wanted));
  if (grad_x.size() == 0) return;

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
  with_pack<T>(s.C, aligned(grad_columns.data(), grad_x.data()), [&](auto V) {
    const int slabs = static_cast<int>((d.C + kWarp * V - 1) / (kWarp * V));
    launch(gather_kernel<T, V>, blocks_for(pixels * slabs, kWarps), kBlock, 0, cuda.stream(), offsets.data(),
           grad_columns.data(), begins, lists, grad_x.data(), pixels, slabs, mode == Accumulate::add, s);
  });
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

}  // namespace gradlibra::kernels
