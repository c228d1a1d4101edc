// SPDX-License-Identifier: MIT
// Centerness on the device: a thread per row and a partial sum per block, which one block then adds up.
#include "kernels/block_sum.cuh"
#include "kernels/boxes/centerness.h"

namespace gradlibra::kernels {

namespace {

static_assert(kBlock == kCenternessRows);

__global__ void centerness_kernel(const float* __restrict__ priors, const float* __restrict__ boxes,
                                  const float* __restrict__ weights, int64_t rows, int64_t P,
                                  float* __restrict__ centerness, double* __restrict__ partials) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  float value = 0;
  if (i < rows) {
    if (weights[i] != 0) value = centerness_of(priors + 3 * (i % P), boxes + 4 * i);
    centerness[i] = value;
  }
  const double sum = block_sum(double{value});
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void centerness_sum_kernel(const double* __restrict__ partials, int64_t count, double* __restrict__ sum) {
  double part = 0;
  for (int64_t i = threadIdx.x; i < count; i += kBlock) part += partials[i];
  part = block_sum(part);
  if (threadIdx.x == 0) sum[0] = part;
}

}  // namespace

void centerness_targets(Cuda& cuda, View<const float> priors, View<const float> boxes, View<const float> weights,
                        View<float> centerness, View<double> sum, View<double> workspace) {
  check_centerness_targets(priors, boxes, weights, centerness, sum, workspace);
  const int64_t rows = weights.size(), blocks = centerness_workspace(rows);
  if (blocks > 0)
    launch(centerness_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), priors.data(), boxes.data(),
           weights.data(), rows, boxes.dim(1), centerness.data(), workspace.data());
  launch(centerness_sum_kernel, 1, kBlock, 0, cuda.stream(), workspace.data(), blocks, sum.data());
}

}  // namespace gradlibra::kernels
