// SPDX-License-Identifier: MIT
// A block counts its share of the rows in shared memory, one thread per label then adds up the blocks. Integers, so the
// order of the additions is of no consequence.
#include <algorithm>

#include "kernels/launch.h"
#include "kernels/losses/count_labels.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void count_share_kernel(const int32_t* __restrict__ labels, const float* __restrict__ weights, int64_t R,
                                   int K, int32_t* __restrict__ shares) {
  int32_t* counts = dynamic_shared<int32_t>();
  for (int k = static_cast<int>(threadIdx.x); k < K; k += kBlock) counts[k] = 0;
  __syncthreads();
  const int64_t step = int64_t{gridDim.x} * kBlock;
  for (int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x; i < R; i += step)
    if (weights[i] != 0 && labels[i] >= 0 && labels[i] < K) atomicAdd(&counts[labels[i]], 1);
  __syncthreads();
  for (int k = static_cast<int>(threadIdx.x); k < K; k += kBlock) shares[int64_t{blockIdx.x} * K + k] = counts[k];
}

__global__ void count_total_kernel(const int32_t* __restrict__ shares, int blocks, int K, double* __restrict__ counts) {
  const int k = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (k >= K) return;
  int64_t total = 0;
#pragma unroll 8
  for (int b = 0; b < blocks; ++b) total += shares[int64_t{b} * K + k];
  counts[k] = static_cast<double>(total);
}

}  // namespace

void count_labels(Cuda& cuda, View<const int32_t> labels, View<const float> weights, View<double> counts,
                  View<int32_t> workspace) {
  check_count_labels(labels, weights, counts);
  const int64_t R = labels.size(), K = counts.size();
  if (K == 0) return;
  require(workspace.size() >= count_labels_workspace(K), "count_labels", "workspace is too small");
  const unsigned blocks = static_cast<unsigned>(std::min<int64_t>(kCountBlocks, (R + kBlock - 1) / kBlock));
  if (blocks > 0)
    launch(count_share_kernel, blocks, kBlock, static_cast<size_t>(K) * sizeof(int32_t), cuda.stream(), labels.data(),
           weights.data(), R, static_cast<int>(K), workspace.data());
  launch(count_total_kernel, blocks_for(K, kBlock), kBlock, 0, cuda.stream(), workspace.data(),
         static_cast<int>(blocks), static_cast<int>(K), counts.data());
}

}  // namespace gradlibra::kernels
