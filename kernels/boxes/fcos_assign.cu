// SPDX-License-Identifier: MIT
// FCOS assignment on the device: one thread per cell walks the objects of its image, which all threads of a block read
// together.
#include "kernels/boxes/fcos_assign.h"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void fcos_assign_kernel(const float* __restrict__ priors, int64_t P, const PaddedBoxes gt,
                                   const FcosAssign options, int32_t* __restrict__ assigned) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= gt.N * P) return;
  const int64_t n = row / P, p = row % P, count = gt.count(n);
  const float prior[3] = {priors[3 * p], priors[3 * p + 1], priors[3 * p + 2]};
  const int level = fcos_level(options, prior[2]);
  int32_t owner = 0;
  double smallest = 0;
  for (int64_t g = 0; level >= 0 && g < count; ++g) {
    const float* box = gt.boxes + 4 * (n * gt.M + g);
    if (!fcos_may_claim(options, level, prior, box)) continue;
    const double area = fcos_area(box);
    if (owner > 0 && area >= smallest) continue;
    owner = static_cast<int32_t>(g + 1);
    smallest = area;
  }
  assigned[row] = owner;
}

}  // namespace

void fcos_assign(Cuda& cuda, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                 const FcosAssign& options, View<int32_t> assigned) {
  check_fcos_assign(priors, gt_boxes, gt_counts, options, assigned);
  if (assigned.size() == 0) return;
  const PaddedBoxes gt = {gt_boxes.data(), gt_counts.data(), assigned.dim(0), gt_boxes.dim(1)};
  launch(fcos_assign_kernel, blocks_for(assigned.size(), kBlock), kBlock, 0, cuda.stream(), priors.data(),
         assigned.dim(1), gt, options, assigned.data());
}

}  // namespace gradlibra::kernels
