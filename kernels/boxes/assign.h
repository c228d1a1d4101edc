// SPDX-License-Identifier: MIT
// Target assignment of RepPoints: which prior answers for which ground truth box. Padded ground truth, on the device.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Common to both: gt_boxes (N, M, 4) x1, y1, x2, y2 in pixels, padded; gt_counts (N): the first gt_counts[n] <= M are
// real. valid (N, P): a prior with 0 lies in the padding of its image (kernels/boxes/valid_cells.h), takes no part and
// is ignored; a null view: all are valid. assigned (N, P): 0 background, -1 ignored, k > 0 = ground truth k - 1. No
// boxes: all 0. Memory is O(P + M), never P * M.

struct PointAssign {
  float scale = 4;  // a box of side scale * stride belongs to the level of that stride
  int pos_num = 1;  // k nearest points per box, 1 <= k <= 16
};

// PointAssigner of RepPoints. priors (P, 3): x, y, stride (a power of two), level after level, each level row-major.
//   level of a box L = trunc((log2(w/scale) + log2(h/scale)) / 2), w, h >= 1e-6, clamped to the levels present;
//   the k points of that level nearest by |((x-cx)/w, (y-cy)/h)| (ties: lower index) are its candidates;
//   a point goes to the nearest box that has it as candidate (ties: lower box). A box may end with no point.
// A level that is not among the priors' strides counts as the next lower one. Geometry: kernels/boxes/prior_distance.h.
// workspace: point_assign_workspace(N, M, options) int32, the candidates.
int64_t point_assign_workspace(int64_t N, int64_t M, const PointAssign& options);
void point_assign(Cpu&, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                  View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                  View<int32_t> workspace);
void point_assign(Cuda&, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                  View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                  View<int32_t> workspace);

struct MaxIouAssign {
  float pos_iou = 0.5f;
  float neg_iou = 0.4f;
  // 0 reproduces the reference, where an untouched ground truth takes every prior; above 1 no box is given that way.
  float min_pos_iou = 1e-6f;
};

// MaxIoUAssigner. boxes (N, P, 4): each image's own proposals. With m the largest IoU of a box, k its ground truth
// (ties: lower):
//   m < neg_iou -> 0;  m >= pos_iou -> k;  between -> -1.
// Low quality: with M_g the largest IoU of g over all boxes, a box belongs to the largest g with
// IoU(g, box) == M_g >= min_pos_iou if there is one, whatever was said before.
// IoU by kernels/boxes/box_iou.h, recomputed with identical arithmetic. NaN boxes have overlap 0 with everything.
// workspace: max_iou_assign_workspace(N, M) floats; it holds M_g.
int64_t max_iou_assign_workspace(int64_t N, int64_t M);
void max_iou_assign(Cpu&, View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                    View<const uint8_t> valid, const MaxIouAssign& options, View<int32_t> assigned,
                    View<float> workspace);
void max_iou_assign(Cuda&, View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                    View<const uint8_t> valid, const MaxIouAssign& options, View<int32_t> assigned,
                    View<float> workspace);

// From an assignment to training targets, row by row:
//   labels (N, P): gt_labels[k-1] of a positive, `background` otherwise;  class_weights (N, P): 0 if ignored, else 1;
//   box_targets (N, P, 4): the ground truth box of a positive, else 0;    box_weights (N, P): 1 for a positive, else 0.
// gt_labels (N, M). Null labels/class_weights views (and then gt_labels) skip those two (the init stage of RepPoints
// gives no class target).
void gather_targets(Cpu&, View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                    int background, View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                    View<float> box_weights);
void gather_targets(Cuda&, View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                    int background, View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                    View<float> box_weights);

// counts[0] = positives (assigned > 0), counts[1] = valid rows (assigned >= 0), counts[2] = sum over images of
// max(positives of the image, 1), counts[3] = sum over images of max(positives, 1) + max(negatives, 1). As doubles,
// (4). workspace: count_assigned_workspace(N) int32, for the device; a host needs none.
constexpr int64_t count_assigned_workspace(int64_t N) { return 2 * N; }
void count_assigned(Cpu&, View<const int32_t> assigned, View<double> counts, View<int32_t> workspace);
void count_assigned(Cuda&, View<const int32_t> assigned, View<double> counts, View<int32_t> workspace);

// What both versions check first.
void check_point_assign(View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                        View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                        View<int32_t> workspace);
void check_max_iou_assign(View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                          View<const uint8_t> valid, View<int32_t> assigned, View<float> workspace);
void check_gather_targets(View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                          View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                          View<float> box_weights);
void check_count_assigned(View<const int32_t> assigned, View<double> counts);

}  // namespace gradlibra::kernels
