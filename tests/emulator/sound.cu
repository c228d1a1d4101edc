// SPDX-License-Identifier: MIT
// Correct kernels in the styles that this project uses: they must pass under every seed.
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::emulator_test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

__device__ int warp_sum(int v) {
  for (int delta = 16; delta > 0; delta /= 2) v += __shfl_down_sync(kAll, v, delta);
  return v;
}

// The sum over the block, in thread 0. Whole warps only.
__device__ int block_sum(int v) {
  __shared__ int of_warp[32];
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) v = warp_sum(threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : 0);
  __syncthreads();
  return v;
}

__device__ int share_of_block(const int* x, int n) {
  int v = 0;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x * blockDim.x))
    v += __ldg(&x[i]);
  return v;
}

__global__ void block_sums_kernel(const int* x, int n, int* sum) {
  const int total = block_sum(share_of_block(x, n));
  if (threadIdx.x == 0) sum[blockIdx.x] = total;
}

__global__ void grid_sum_kernel(const int* x, int n, int* partial, unsigned* ticket, int* total) {
  __shared__ bool last;
  const int own = block_sum(share_of_block(x, n));
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = own;
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  int v = 0;
  for (unsigned b = threadIdx.x; b < gridDim.x; b += blockDim.x) v += partial[b];
  v = block_sum(v);
  if (threadIdx.x == 0) {
    *total = v;
    *ticket = 0;
  }
}

constexpr int kTile = 16;

__global__ void transpose_kernel(const float* __restrict__ x, int rows, int cols, float* __restrict__ y) {
  __shared__ float tile[kTile][kTile + 1];
  const int row0 = static_cast<int>(blockIdx.y) * kTile, col0 = static_cast<int>(blockIdx.x) * kTile;
  const int i = static_cast<int>(threadIdx.y), j = static_cast<int>(threadIdx.x);
  if (row0 + i < rows && col0 + j < cols) tile[i][j] = x[(row0 + i) * cols + col0 + j];
  __syncthreads();
  if (col0 + i < cols && row0 + j < rows) y[(col0 + i) * rows + row0 + j] = tile[j][i];
}

__global__ void __launch_bounds__(128) histogram_kernel(const unsigned char* x, int n, unsigned* bins, int bin_count) {
  auto* local = dynamic_shared<unsigned>();
  for (int b = static_cast<int>(threadIdx.x); b < bin_count; b += static_cast<int>(blockDim.x)) local[b] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) atomicAdd(&local[x[i]], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < bin_count; b += static_cast<int>(blockDim.x))
    if (local[b] != 0) atomicAdd(&bins[b], local[b]);
}

__global__ void prefix_sum_kernel(const int* x, int* y) {
  int* sums = dynamic_shared<int>();
  const unsigned i = threadIdx.x;
  sums[i] = x[i];
  __syncthreads();
  for (unsigned delta = 1; delta < blockDim.x; delta *= 2) {
    const int before = i >= delta ? sums[i - delta] : 0;
    __syncthreads();
    sums[i] += before;
    __syncthreads();
  }
  y[i] = sums[i];
}

__global__ void warp_operations_kernel(unsigned* results) {
  const int lane = static_cast<int>(threadIdx.x);
  unsigned* r = results + lane * kWarpResults;
  const auto v = static_cast<unsigned>(100 + lane);
  *r++ = __shfl_sync(kAll, v, 5);
  *r++ = __shfl_sync(kAll, v, 5, 8);  // lane 5 of each group of 8
  *r++ = __shfl_up_sync(kAll, v, 3, 16);
  *r++ = __shfl_down_sync(kAll, v, 3, 16);
  *r++ = __shfl_xor_sync(kAll, v, 9);
  *r++ = __ballot_sync(kAll, lane % 3 == 0);
  *r++ = static_cast<unsigned>(__any_sync(kAll, lane == 17));
  *r++ = static_cast<unsigned>(__all_sync(kAll, lane != 17));
  *r++ = __match_any_sync(kAll, static_cast<unsigned>(lane % 4));
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;  // each half on its own
  *r++ = __shfl_xor_sync(half, v, 1);
  *r++ = __float_as_uint(__shfl_xor_sync(kAll, static_cast<float>(lane), 16));
  *r++ = static_cast<unsigned>(__shfl_xor_sync(kAll, 0x100000000LL * lane, 2) >> 32);
  *r++ = static_cast<unsigned>(__shfl_down_sync(kAll, 1.5 * lane, 1));
  *r++ = static_cast<unsigned>(__syncthreads_count(lane < 7));
  *r++ = static_cast<unsigned>(__syncthreads_or(lane == 31));
  *r++ = static_cast<unsigned>(__syncthreads_and(lane == 31));
}

__global__ void arrival_order_kernel(unsigned* ticket, unsigned* order) {
  order[atomicAdd(ticket, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}

__global__ void coordinates_kernel(unsigned* where) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  where[i] = i;
}

__global__ void empty_kernel() {}

__global__ void static_and_dynamic_kernel(float* y) {
  __shared__ float big[10 * 1024];
  auto* more = dynamic_shared<float>();
  big[threadIdx.x] = more[0] = 1;
  y[0] = big[threadIdx.x];
}

}  // namespace

void block_sums(Cuda& cuda, const int* x, int n, int* sum, unsigned blocks, unsigned threads) {
  launch(block_sums_kernel, blocks, threads, 0, cuda.stream(), x, n, sum);
}
void grid_sum(Cuda& cuda, const int* x, int n, int* partial, unsigned* ticket, int* total, unsigned blocks) {
  launch(grid_sum_kernel, blocks, 64, 0, cuda.stream(), x, n, partial, ticket, total);
}
void transpose(Cuda& cuda, const float* x, int rows, int cols, float* y) {
  launch(transpose_kernel, dim3(blocks_for(cols, kTile), blocks_for(rows, kTile)), dim3(kTile, kTile), 0, cuda.stream(),
         x, rows, cols, y);
}
void histogram(Cuda& cuda, const unsigned char* x, int n, unsigned* bins, int bin_count) {
  launch(histogram_kernel, blocks_for(n, 128), 128, static_cast<size_t>(bin_count) * sizeof(unsigned), cuda.stream(), x,
         n, bins, bin_count);
}
void prefix_sum(Cuda& cuda, const int* x, int n, int* y) {
  launch(prefix_sum_kernel, 1, static_cast<unsigned>(n), static_cast<size_t>(n) * sizeof(int), cuda.stream(), x, y);
}
void warp_operations(Cuda& cuda, unsigned* results) {
  launch(warp_operations_kernel, 1, 32, 0, cuda.stream(), results);
}
void arrival_order(Cuda& cuda, unsigned* ticket, unsigned* order, unsigned blocks, unsigned threads) {
  launch(arrival_order_kernel, blocks, threads, 0, cuda.stream(), ticket, order);
}
void coordinates(Cuda& cuda, dim3 grid, dim3 block, unsigned* where) {
  launch(coordinates_kernel, grid, block, 0, cuda.stream(), where);
}
void empty(Cuda& cuda, dim3 grid, dim3 block, size_t shared_bytes) {
  launch(empty_kernel, grid, block, shared_bytes, cuda.stream());
}
void static_and_dynamic(Cuda& cuda, size_t shared_bytes, float* y) {
  launch(static_and_dynamic_kernel, 1, 32, shared_bytes, cuda.stream(), y);
}
void null_kernel(Cuda& cuda) {
  void (*kernel)() = nullptr;
  launch(kernel, 1, 32, 0, cuda.stream());
}

}  // namespace gradlibra::emulator_test
