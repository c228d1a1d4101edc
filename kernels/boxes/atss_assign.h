// SPDX-License-Identifier: MIT
// Adaptive training sample selection (ATSS, arXiv:1912.02424, alg. 1): how much an anchor must overlap an object to be
// its own follows from the overlaps around it.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct AtssAssign {
  int topk = 9;  // candidates per object and level, 1 to 16
};
inline constexpr int kMaxAtssLevels = 8;

// anchors (P, 4), level after level, level_rows of each (their sum is P, at most kMaxAtssLevels of them); gt_boxes
// (N, M, 4), padded: the first gt_counts[n] <= M are real. valid (N, P) or empty: an anchor with 0 takes part in
// nothing and is assigned -1.
//   1. Candidates of an object: on each level the min(topk, anchors of the level) anchors whose centre is nearest to
//      the object's (ties: lower index).
//   2. Its threshold: mean + standard deviation (divisor count - 1; one candidate alone has none, and stays negative)
//      of the candidates' overlaps, in double, level after level.
//   3. A candidate is positive if it overlaps by the threshold or more and its centre lies inside the object by more
//      than 0.01 pixels on every side.
//   4. assigned (N, P): g + 1 of the object for which it is positive, of several the one it overlaps most (ties:
//      lower); else 0.
// Overlaps by kernels/boxes/box_iou.h. workspace: atss_assign_workspace(N, M, levels, options) doubles: thresholds and
// candidates.
int64_t atss_assign_workspace(int64_t N, int64_t M, int64_t levels, const AtssAssign& options);
void atss_assign(Cpu&, View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                 View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                 View<int32_t> assigned, View<double> workspace);
void atss_assign(Cuda&, View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                 View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                 View<int32_t> assigned, View<double> workspace);

// What both versions check first.
void check_atss_assign(View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                       View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                       View<int32_t> assigned, View<double> workspace);

}  // namespace gradlibra::kernels
