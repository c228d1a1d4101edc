// SPDX-License-Identifier: MIT
// FCOS assignment on the host: every cell looks at those objects of its image that hold one of the cells around it.
#include "kernels/boxes/fcos_assign.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/boxes/padded_boxes.h"
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

namespace {

constexpr int64_t kRun = 64;  // cells in a row of a map, mostly

// The objects that hold a cell of those in `priors` (cells, 3), perhaps, in order.
void near_objects(const float* priors, int64_t cells, const float* boxes, int64_t count, std::vector<int64_t>& near) {
  constexpr float kFar = std::numeric_limits<float>::infinity();
  float low[2] = {kFar, kFar}, high[2] = {-kFar, -kFar};
  for (int64_t p = 0; p < cells; ++p)
    for (int axis = 0; axis < 2; ++axis) {
      low[axis] = std::min(low[axis], priors[3 * p + axis]);
      high[axis] = std::max(high[axis], priors[3 * p + axis]);
    }
  near.clear();
  for (int64_t g = 0; g < count; ++g) {
    const float* box = boxes + 4 * g;
    if (box[0] < high[0] && box[2] > low[0] && box[1] < high[1] && box[3] > low[1]) near.push_back(g);
  }
}

}  // namespace

void fcos_assign(Cpu& cpu, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                 const FcosAssign& options, View<int32_t> assigned) {
  check_fcos_assign(priors, gt_boxes, gt_counts, options, assigned);
  const int64_t P = assigned.dim(1), M = gt_boxes.dim(1), runs = (P + kRun - 1) / kRun;
  const PaddedBoxes gt{gt_boxes.data(), gt_counts.data(), assigned.dim(0), M};
  parallel_for(cpu, assigned.dim(0) * runs, 4, [&](int64_t run) {
    const int64_t n = run / runs, begin = run % runs * kRun, end = std::min(P, begin + kRun);
    const float* boxes = gt_boxes.data() + 4 * n * M;
    std::vector<int64_t> near;
    near_objects(priors.data() + 3 * begin, end - begin, boxes, gt.count(n), near);
    for (int64_t p = begin; p < end; ++p) {
      const float* prior = priors.data() + 3 * p;
      const int level = fcos_level(options, prior[2]);
      int32_t owner = 0;
      double smallest = 0;
      for (const int64_t g : near) {
        if (level < 0 || !fcos_may_claim(options, level, prior, boxes + 4 * g)) continue;
        const double area = fcos_area(boxes + 4 * g);
        if (owner > 0 && area >= smallest) continue;
        owner = static_cast<int32_t>(g + 1);
        smallest = area;
      }
      assigned[n * P + p] = owner;
    }
  });
}

}  // namespace gradlibra::kernels
