// SPDX-License-Identifier: MIT
// Device side: what losses share, from what threads have added up to one number.
#pragma once

#include <cstdint>

#include "kernels/block_sum.cuh"
#include "kernels/launch.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

namespace {

// First stage, at a kernel's end: the block's sum. Every thread must call.
__device__ void store_partial(double sum, double* __restrict__ partials) {
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// loss[0] = loss_weight / normalizer[0] * (sum of `count` partial sums; 0 if there are none). Null: 1. One block.
__global__ void loss_total_kernel(const double* __restrict__ partials, int64_t count, double loss_weight,
                                  const double* __restrict__ normalizer, double* __restrict__ loss) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) loss[0] = (normalizer == nullptr ? loss_weight : loss_weight / normalizer[0]) * sum;
}

// Second stage. blocks: how many have stored a sum, 0 if there was nothing to launch.
void launch_loss_total(Cuda& cuda, View<double> partials, int64_t blocks, double loss_weight,
                       View<const double> normalizer, View<double> loss) {
  launch(loss_total_kernel, 1, kBlock, 0, cuda.stream(), partials.data(), blocks, loss_weight, normalizer.data(),
         loss.data());
}

}  // namespace

}  // namespace gradlibra::kernels
