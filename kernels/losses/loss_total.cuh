// SPDX-License-Identifier: MIT
// Device side: the second stage of a loss, from one partial sum per block to the loss.
#pragma once

#include <cstdint>

#include "kernels/block_sum.cuh"

namespace gradlibra::kernels {

namespace {

// loss[0] = loss_weight / normalizer[0] * (sum of `count` partial sums; 0 if there are none). One block.
__global__ void loss_total_kernel(const double* __restrict__ partials, int64_t count, double loss_weight,
                                  const double* __restrict__ normalizer, double* __restrict__ loss) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) loss[0] = loss_weight / normalizer[0] * sum;
}

}  // namespace

}  // namespace gradlibra::kernels
