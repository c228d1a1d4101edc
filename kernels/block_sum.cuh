// SPDX-License-Identifier: MIT
// Device side: sums over the threads of a block, in an order that depends on the block's size only.
#pragma once

#include <cstdint>

#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

// Functions with shared memory are static: the emulator fills shared variables of internal linkage with garbage.

// The sum of `value` over the block, on every thread. Blocks of whole warps only; every thread must call.
template <class T>
static __device__ T block_sum(T value) {
  __shared__ T warp_sums[32];
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_down_sync(0xffffffffu, value, distance);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += warp_sums[warp];
  __syncthreads();  // warp_sums may be written by the next call
  return total;
}

// A block of kBlock threads seen as slots x lanes: a lane owns V neighbouring channels, slots share the rows.
// lanes is a power of two, at most 32.
inline int lanes_for(int64_t channels, int V) {
  int lanes = 1;
  while (lanes < 32 && static_cast<int64_t>(lanes) * V < channels) lanes *= 2;
  return lanes;
}

// Adds `values` over the slots; the totals are in slot 0, that is in threads 0 .. lanes - 1. Every thread must call.
template <int kValues, class T>
static __device__ void slot_sum(T (&values)[kValues], int lanes) {
  __shared__ T upper[kValues][kBlock / 2];
  const int t = static_cast<int>(threadIdx.x);
  for (int half = kBlock / 2; half >= lanes; half /= 2) {
    if (t >= half && t < 2 * half)
      for (int k = 0; k < kValues; ++k) upper[k][t - half] = values[k];
    __syncthreads();
    if (t < half)
      for (int k = 0; k < kValues; ++k) values[k] += upper[k][t];
    __syncthreads();
  }
}

// out[c] (+)= sum over rows of partial[row * channels + c], in double. For blocks of kBlock threads, each of which has
// kTotalLanes channels: few channels per block, because there are few blocks and many rows.
inline constexpr int kTotalLanes = 8;
static __device__ inline void column_totals(const float* partial, int64_t rows, int64_t channels, float* out,
                                            bool add) {
  const int slot = static_cast<int>(threadIdx.x) / kTotalLanes;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kTotalLanes + threadIdx.x % kTotalLanes;
  double total[1] = {0};
  if (c < channels)
#pragma unroll 16  // few threads for much latency: loads of many rows at a time
    for (int64_t r = slot; r < rows; r += kBlock / kTotalLanes)
      total[0] += static_cast<double>(partial[r * channels + c]);
  slot_sum(total, kTotalLanes);
  if (slot == 0 && c < channels) out[c] = static_cast<float>(total[0] + (add ? static_cast<double>(out[c]) : 0.0));
}

}  // namespace gradlibra::kernels
