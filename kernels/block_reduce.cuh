// SPDX-License-Identifier: MIT
// Device side: any associative operation over the values of a block's threads, such as the largest or the nearest.
// Sums have the faster block_sum (kernels/block_sum.cuh), which adds in another order.
#pragma once

#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

// Thread t's value meets that of t + kBlock/2, then of t + kBlock/4, and so on. Every thread of a block of kBlock
// threads must call it, and gets the result.
template <class T, class Op>
__device__ T block_reduce(T value, Op op) {
  __shared__ T values[kBlock];
  const int t = static_cast<int>(threadIdx.x);
  values[t] = value;
  __syncthreads();
  for (int half = kBlock / 2; half > 0; half /= 2) {
    if (t < half) values[t] = op(values[t], values[t + half]);
    __syncthreads();
  }
  const T result = values[0];
  __syncthreads();  // the next call may write `values` at once
  return result;
}

}  // namespace gradlibra::kernels
