// SPDX-License-Identifier: MIT
// FCOS assignment on the host: every cell looks at the objects of its image.
#include "kernels/boxes/fcos_assign.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_fcos_assign(View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                       const FcosAssign& options, View<int32_t> assigned) {
  const char* const op = "fcos_assign";
  require(assigned.rank() == 2, op, "assigned must be (N, P), is " + assigned.shape().to_string());
  require(gt_boxes.rank() == 3, op, "gt_boxes must be (N, M, 4), are " + gt_boxes.shape().to_string());
  const int64_t N = assigned.dim(0);
  require_shape(op, "priors", priors, {assigned.dim(1), 3});
  require_shape(op, "gt_boxes", gt_boxes, {N, gt_boxes.dim(1), 4});
  require_shape(op, "gt_counts", gt_counts, {N});
  require(options.levels >= 1 && options.levels <= kMaxFcosLevels, op,
          "levels must be 1 to " + std::to_string(kMaxFcosLevels) + ", are " + std::to_string(options.levels));
}

void fcos_assign(Cpu& cpu, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                 const FcosAssign& options, View<int32_t> assigned) {
  check_fcos_assign(priors, gt_boxes, gt_counts, options, assigned);
  const int64_t P = assigned.dim(1), M = gt_boxes.dim(1);
  parallel_for(cpu, assigned.size(), 256, [&](int64_t row) {
    const int64_t n = row / P, count = std::clamp<int64_t>(gt_counts[n], 0, M);
    const float* prior = priors.data() + 3 * (row % P);
    const int level = fcos_level(options, prior[2]);
    int32_t owner = 0;
    double smallest = 0;
    for (int64_t g = 0; level >= 0 && g < count; ++g) {
      const float* box = gt_boxes.data() + 4 * (n * M + g);
      if (!fcos_may_claim(options, level, prior, box)) continue;
      const double area = fcos_area(box);
      if (owner > 0 && area >= smallest) continue;
      owner = static_cast<int32_t>(g + 1);
      smallest = area;
    }
    assigned[row] = owner;
  });
}

}  // namespace gradlibra::kernels
