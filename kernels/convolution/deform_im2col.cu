// SPDX-License-Identifier: MIT
// Deformable columns on the GPU.
//
// Forward: a block owns kRun consecutive samples (taps of neighbouring cells, whose corners are mostly the same pixels,
// so that L1 serves them). Each sample's position is worked out once, by one thread, into shared memory; then a group
// of threads, for 256 bfloat16 a warp, takes one sample at a time, a thread 16 bytes of its channels in turn (on an
// H100, P3 in bfloat16, 0.29 ms; 0.32 with eight threads a sample).
//
// Backward is a gather: a scatter would need atomics on every channel, and floating-point ones add in the order of
// arrival. A warp per pixel goes through the samples around it, which sorted_samples.cuh has sorted, and adds weight *
// grad_columns in the contract's order. Beside it notes the product of each sample's gradient with the pixel, a number
// per corner of a sample, and a last kernel makes the slopes of them: columns' gradients, nine times the map, are read
// by one kernel instead of two, and the sorted samples serve every convolution that samples at these points. A mask is
// part of the samples' weights, and costs no pass over columns.
#include <algorithm>
#include <cmath>

#include "kernels/block_sum.cuh"
#include "kernels/convolution/deform_im2col.h"
#include "kernels/convolution/sorted_samples.cuh"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

using namespace deform;

constexpr int kRun = 96;      // samples of a block of deform_im2col_kernel: twelve for each warp
constexpr int kTogether = 4;  // samples whose products with a pixel are summed together
static_assert(kSorted % kTogether == 0);
constexpr int kGatherBlocks = 3;  // of gather_kernel that share a multiprocessor

// A position as the threads of a group need it: the first channel of each corner, -1 outside the map, corners in the
// order (y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1).
struct Tap {
  int64_t corner[4];
  float weight[4];
};

// Fills taps[i] for samples first + i of this block and returns their number. All threads must call. `mask` may be
// null.
__device__ int fill_taps(const float* __restrict__ offsets, const float* __restrict__ mask, int64_t first,
                         const Sizes& s, Tap* taps) {
  const int count = static_cast<int>(min(int64_t{kRun}, s.samples - first));
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock) {
    const Position p = position_of(offsets, first + i, s);
    const float m = mask == nullptr || !p.inside ? 1 : mask[first + i];  // 0 times a NaN is none
    Tap& tap = taps[i];
    for (int k = 0; k < 4; ++k) {
      const int a = k / 2, b = k % 2, y = p.y0 + a, x = p.x0 + b;
      const bool there = p.inside && y >= 0 && y < s.H && x >= 0 && x < s.W;
      tap.corner[k] = there ? ((p.n * s.H + y) * s.W + x) * s.C : -1;
      tap.weight[k] = m * p.weight(a, b);
    }
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
    deform_im2col_kernel(const T* __restrict__ x, const float* __restrict__ offsets, const float* __restrict__ mask,
                         T* __restrict__ columns, int lanes, const Sizes s) {
  __shared__ Tap taps[kRun];
  const int64_t first = int64_t{blockIdx.x} * kRun;
  const int count = fill_taps(offsets, mask, first, s, taps);
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

// Samples that a warp is about to add.
struct alignas(16) Batch {
  int samples[kSorted];
  float weights[kSorted];
  int slots[kSorted];  // of their products
};

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
// A warp takes a pixel and kWarp packs of its channels, `slabs` of them per pixel.
template <class T, int V>
__global__ void __launch_bounds__(kBlock, kGatherBlocks)
    gather_kernel(const T* __restrict__ grad_columns, const int* __restrict__ begins, const int* __restrict__ slots,
                  const int* __restrict__ weights, T* __restrict__ grad_x, int64_t pixels, int slabs, bool add,
                  const Products<T> products, const Sizes s) {
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
  const Range around = sorted_of(pixel_at(index, s), begins, s);
  Batch& batch = batches[warp];
  for (int first = 0; first < around.size; first += kSorted) {
    const int size = min(kSorted, around.size - first);
    fill_batch(slots + around.begin + first, weights + around.begin + first, size, s.C / V, batch);
    add_with_products<T, V>(grad_columns, batch, size, owner, c, x, products.at + 4 * slab * s.samples, sum);
    __syncwarp();
  }
  if (owner) store<V>(grad_x + index * s.C + c, sum);
}
// The gradients of the offsets and of the mask, if there is one, from the products, which pixels outside the map have
// none of.
__global__ void __launch_bounds__(kBlock)
    slopes_from_products_kernel(const float* __restrict__ offsets, const float* __restrict__ mask,
                                const float* __restrict__ products, int slabs, float* __restrict__ grad_offsets,
                                bool add, float* __restrict__ grad_mask, const Sizes s) {
  const int64_t sample = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (sample >= s.samples) return;
  const Position p = position_of(offsets, static_cast<int>(sample), s);
  float along_y = 0, along_x = 0, by_mask = 0;
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
    for (int k = 0; k < 4; ++k) by_mask += p.weight(k / 2, k % 2) * sums[k];
    if (mask != nullptr) {
      along_y *= mask[sample];
      along_x *= mask[sample];
    }
  }
  if (mask != nullptr) grad_mask[sample] = by_mask;
  float* out = grad_offsets + 2 * sample;
  out[0] = add ? out[0] + along_y : along_y;
  out[1] = add ? out[1] + along_x : along_x;
}
// How many warps share a pixel, each with one pack of channels to a lane.
int slabs_of(int64_t C, int pack) { return static_cast<int>((C + kWarp * pack - 1) / (kWarp * pack)); }

// Samples, bins and rows of gradients are numbered in int.
void check_backward(const DeformDims& d, int pack, const Shape& x, const DeformWorkspace& workspace, int64_t products) {
  const char* op = "deform_im2col_backward";
  const int64_t samples = sizes(d).samples, bins = d.N * (d.H + 1) * (d.W + 1);
  require(samples <= INT32_MAX / std::max<int64_t>(4, d.C / pack) && bins <= INT32_MAX, op,
          std::to_string(samples) + " samples of " + std::to_string(d.C / pack) + " packs of channels and " +
              std::to_string(bins) + " squares between pixels of x " + x.to_string() +
              ", expected samples times packs, 4 times the samples and the squares below 2^31; take smaller batches");
  const auto require_size = [&](const char* name, int64_t size, bool there, int64_t wanted) {
    require(size >= wanted && (there || wanted == 0), op,
            std::string(name) + " of the workspace has " + std::to_string(size) + " values, expected " +
                std::to_string(wanted));
  };
  require_size("samples", workspace.samples.size(), workspace.samples.data() != nullptr,
               deform_im2col_workspace(x, d.K));
  require_size("products", workspace.products.size(), workspace.products.data() != nullptr, products);
}

}  // namespace

template <MapType T>
void deform_im2col(Cuda& cuda, In<T> x, View<const float> offsets, int kernel, View<T> columns,
                   View<const float> mask) {
  const Sizes s = sizes(deform_dims("deform_im2col", x.shape(), offsets.shape(), columns.shape(), kernel, mask));
  if (columns.size() == 0) return;
  with_pack<T>(s.C, aligned(x.data(), columns.data()), [&](auto V) {
    launch(deform_im2col_kernel<T, V>, blocks_for(s.samples, kRun), kBlock, 0, cuda.stream(), x.data(), offsets.data(),
           mask.data(), columns.data(), lanes_for(s.C, V), s);
  });
}

template <MapType T>
void deform_im2col_backward(Cuda& cuda, In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                            const GradTarget<T>& grad_x, const GradTarget<>& grad_offsets,
                            const DeformWorkspace& workspace, const DeformMask& mask) {
  const DeformDims d = deform_backward_dims<T>(x, offsets, grad_columns, kernel, grad_x, grad_offsets, mask);
  const Sizes s = sizes(d);
  // The workspace is sized by C alone, so the addresses have no say in what a pack is.
  with_pack<T>(d.C, true, [&](auto V) {
    check_backward(d, V, x.shape(), workspace, deform_im2col_products<T>(x.shape(), kernel));
    float* products = workspace.products.data();
    require(aligned(products) && (V == 1 || aligned(x.data(), grad_columns.data(), grad_x.grad.data())),
            "deform_im2col_backward", "maps and products must lie on 16 bytes");
    if (s.samples == 0) return;
    const SortedSamples samples = sort_samples(cuda, d, offsets, mask.values, workspace.samples, workspace.sorted);
    const int64_t pixels = d.N * d.H * d.W;
    const int slabs = slabs_of(d.C, V);
    if (slabs > 0)
      launch(gather_kernel<T, V>, blocks_for(pixels * slabs, kWarps), kBlock, 0, cuda.stream(), grad_columns.data(),
             samples.begins, samples.slots, samples.weights, grad_x.grad.data(), pixels, slabs, grad_x.adds(),
             Products<T>{x.data(), products}, s);
    launch(slopes_from_products_kernel, blocks_for(s.samples, kBlock), kBlock, 0, cuda.stream(), offsets.data(),
           mask.values.data(), products, slabs, grad_offsets.grad.data(), grad_offsets.adds(), mask.grad.data(), s);
  });
}

template void deform_im2col(Cuda&, View<const float>, View<const float>, int, View<float>, View<const float>);
template void deform_im2col_backward(Cuda&, View<const float>, View<const float>, View<const float>, int,
                                     const GradTarget<float>&, const GradTarget<>&, const DeformWorkspace&,
                                     const DeformMask&);

template void deform_im2col(Cuda&, View<const bfloat16>, View<const float>, int, View<bfloat16>, View<const float>);
template void deform_im2col_backward(Cuda&, View<const bfloat16>, View<const float>, View<const bfloat16>, int,
                                     const GradTarget<bfloat16>&, const GradTarget<>&, const DeformWorkspace&,
                                     const DeformMask&);

}  // namespace gradlibra::kernels
