// SPDX-License-Identifier: MIT
// ATSS on the device, without a P x M matrix. One block per object searches each level for its candidates and forms the
// threshold; one thread per anchor then walks the image's objects, which all threads of a block read together, and
// looks for itself among the candidates only where the cheap tests pass. Every decision is a comparison of values that
// the host computes with the same roundings, so results are the host's exactly.
#include "kernels/boxes/atss_assign.h"
#include "kernels/boxes/atss_threshold.h"
#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.cuh"
#include "kernels/boxes/padded_boxes.h"

namespace gradlibra::kernels {

namespace {

constexpr int kMaxTopk = 16;
constexpr int32_t kNone = -1;  // a level with fewer anchors than candidates

struct Args {
  const float* anchors;
  const uint8_t* valid;  // null: all
  int64_t P;
  PaddedBoxes gt;
  int topk, levels;
  int64_t ends[kMaxAtssLevels];  // of the levels, in anchors
  double* thresholds;            // (N, M)
  int32_t* candidates;           // (N, M, levels, topk)
};

// One block per object.
__global__ void find_candidates_kernel(const Args a) {
  __shared__ float overlaps[kMaxAtssLevels * kMaxTopk];
  const int64_t id = blockIdx.x, n = id / a.gt.M;
  if (id % a.gt.M >= a.gt.count(n)) return;
  const float* const object = a.gt.boxes + 4 * id;
  const CentredBox centre = centred_box(object);
  int count = 0;
  for (int l = 0; l < a.levels; ++l) {
    Near found = {-1, -1};
    for (int j = 0; j < a.topk; ++j) {
      found = next_nearest(l == 0 ? 0 : a.ends[l - 1], a.ends[l], found, [&](int64_t p) {
        return takes_part(a.valid, n * a.P + p) ? squared_centre_distance(centred_box(a.anchors + 4 * p), centre)
                                                : static_cast<double>(INFINITY);
      });
      const bool any = found.distance < INFINITY;  // the same on every thread
      if (threadIdx.x == 0) {
        a.candidates[(id * a.levels + l) * a.topk + j] = any ? found.prior : kNone;
        if (any) overlaps[count] = box_iou(a.anchors + 4 * int64_t{found.prior}, object);
      }
      count += any ? 1 : 0;
    }
  }
  if (threadIdx.x == 0) a.thresholds[id] = atss_threshold(overlaps, count);
}

// One thread per anchor.
__global__ void assign_anchors_kernel(const Args a, int32_t* __restrict__ assigned) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.gt.N * a.P) return;
  if (!takes_part(a.valid, row)) {
    assigned[row] = -1;
    return;
  }
  const int64_t n = row / a.P, p = row % a.P, count = a.gt.count(n);
  int level = 0;
  while (p >= a.ends[level]) ++level;
  const float anchor[4] = {a.anchors[4 * p], a.anchors[4 * p + 1], a.anchors[4 * p + 2], a.anchors[4 * p + 3]};
  float largest = -1;
  int32_t owner = 0;
  for (int64_t g = 0; g < count; ++g) {
    const int64_t id = n * a.gt.M + g;
    const float* const object = a.gt.boxes + 4 * id;
    if (!centre_inside(anchor, object, kAtssMargin)) continue;
    const float iou = box_iou(anchor, object);
    if (!(double{iou} >= a.thresholds[id]) || iou <= largest) continue;
    const int32_t* const nearest = a.candidates + (id * a.levels + level) * a.topk;
    for (int j = 0; j < a.topk; ++j)
      if (nearest[j] == p) {
        largest = iou;
        owner = static_cast<int32_t>(g + 1);
      }
  }
  assigned[row] = owner;
}

}  // namespace

void atss_assign(Cuda& cuda, View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                 View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                 View<int32_t> assigned, View<double> workspace) {
  check_atss_assign(anchors, level_rows, gt_boxes, gt_counts, valid, options, assigned, workspace);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  if (N * P == 0) return;
  Args args = {.anchors = anchors.data(),
               .valid = valid.data(),
               .P = P,
               .gt = {gt_boxes.data(), gt_counts.data(), N, M},
               .topk = options.topk,
               .levels = static_cast<int>(level_rows.size()),
               .ends = {},
               .thresholds = workspace.data(),
               .candidates = reinterpret_cast<int32_t*>(workspace.data() + N * M)};
  int64_t end = 0;
  for (size_t l = 0; l < level_rows.size(); ++l) args.ends[l] = end += level_rows[l];
  if (M > 0) launch(find_candidates_kernel, static_cast<unsigned>(N * M), kBlock, 0, cuda.stream(), args);
  launch(assign_anchors_kernel, blocks_for(N * P, kBlock), kBlock, 0, cuda.stream(), args, assigned.data());
}

}  // namespace gradlibra::kernels
