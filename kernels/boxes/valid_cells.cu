// SPDX-License-Identifier: MIT
// One thread per cell of an image.
#include "kernels/boxes/valid_cells.h"
#include "kernels/image_normalize.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void valid_cells_kernel(const float* __restrict__ priors, const int32_t* __restrict__ sizes,
                                   const int32_t* __restrict__ orientations, int divisor, int64_t rows, int64_t P,
                                   uint8_t* __restrict__ valid) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= rows) return;
  const int64_t n = row / P, p = row % P;
  const int turned = (orientations[n] & kTranspose) != 0 ? 1 : 0;
  const int height = (sizes[2 * n + turned] + divisor - 1) / divisor * divisor;
  const int width = (sizes[2 * n + 1 - turned] + divisor - 1) / divisor * divisor;
  valid[row] = priors[3 * p] < static_cast<float>(width) && priors[3 * p + 1] < static_cast<float>(height) ? 1 : 0;
}

}  // namespace

void valid_cells(Cuda& cuda, View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                 int divisor, View<uint8_t> valid) {
  check_valid_cells(priors, sizes, orientations, divisor, valid);
  if (valid.size() == 0) return;
  launch(valid_cells_kernel, blocks_for(valid.size(), kBlock), kBlock, 0, cuda.stream(), priors.data(), sizes.data(),
         orientations.data(), divisor, valid.size(), valid.dim(1), valid.data());
}

}  // namespace gradlibra::kernels
