// SPDX-License-Identifier: MIT
// Uniform matching of YOLOF (arXiv:2103.09460, sec. 4.2): every object gets the same number of anchors, whatever its
// size.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct UniformAssign {
  int match_times = 4;           // k: nearest predictions and nearest anchors per object, 1 <= k <= 16
  float pos_ignore_iou = 0.15f;  // a matched anchor that overlaps its object less is no positive
  float neg_ignore_iou = 0.7f;   // a prior whose prediction overlaps an object more is no negative
};

// A place of `pairs` without a prior: padding, or fewer than k priors.
inline constexpr int32_t kNoPair = std::numeric_limits<int32_t>::min();

// anchors (P, 4); boxes (N, P, 4) what the anchors predict now; gt_boxes (N, M, 4), padded: the first gt_counts[n] <= M
// are real. valid (N, P) or empty: a prior with 0 takes part in nothing and is assigned -1.
//   1. For each object g the k predictions and the k anchors of smallest |dcx| + |dcy| + |dw| + |dh|, ascending (ties:
//      lower index; NaN is far from everything).
//   2. pairs (N, 2k, M): [n, 2r, g] the prior of the r-th prediction, [n, 2r + 1, g] the r-th anchor. Row-major order
//      is the order of the list, in which every pair stands, also one that repeats. Prior p is written p if anchor p
//      overlaps g by pos_ignore_iou or more, else ~p; kNoPair where there is none.
//   3. assigned (N, P): of the pairs with prior p the last in the list decides: g + 1 if kept, else -1. A prior in no
//      pair: -1 if its prediction overlaps any object by more than neg_ignore_iou, else 0.
// Overlaps by kernels/boxes/box_iou.h. No boxes: all 0.
void uniform_assign(Cpu&, View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                    View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                    View<int32_t> assigned, View<int32_t> pairs);
void uniform_assign(Cuda&, View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                    View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                    View<int32_t> assigned, View<int32_t> pairs);

// What the box loss compares: one row per place of `pairs`, of which the box loss takes every kept pair, also repeated
// ones.
//   pair_boxes (N, 2k, M, 4): boxes (N, P, 4) of the prior;  pair_targets (N, 2k, M, 4): its object;
//   weights (N, 2k, M): 1. All 0 where no pair is kept.
void gather_pairs(Cpu&, View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                  View<float> pair_boxes, View<float> pair_targets, View<float> weights);
void gather_pairs(Cuda&, View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                  View<float> pair_boxes, View<float> pair_targets, View<float> weights);

// grad_boxes[n, p] (+)= the sum of grad_pair_boxes over the kept pairs of p, in the order of the list.
void gather_pairs_backward(Cpu&, View<const int32_t> pairs, View<const float> grad_pair_boxes, View<float> grad_boxes,
                           Accumulate mode);
void gather_pairs_backward(Cuda&, View<const int32_t> pairs, View<const float> grad_pair_boxes, View<float> grad_boxes,
                           Accumulate mode);

// What both versions check first.
void check_uniform_assign(View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                          View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                          View<int32_t> assigned, View<int32_t> pairs);
void check_gather_pairs(View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                        View<float> pair_boxes, View<float> pair_targets, View<float> weights);
void check_gather_pairs_backward(View<const int32_t> pairs, View<const float> grad_pair_boxes, View<float> grad_boxes);

}  // namespace gradlibra::kernels
