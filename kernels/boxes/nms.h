// SPDX-License-Identifier: MIT
// Greedy non-maximum suppression per class, for a batch of images.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct NmsCandidates {
  View<const float> boxes, scores;     // (N, K, 4), (N, K)
  View<const int32_t> labels, counts;  // (N, K), (N): the first counts[n] candidates of image n are real
};

// Candidates of an image in descending score (ties: lower index) are kept unless a kept one of the same class has
//   I > iou_threshold * (A_i + A_j - I)        strict: an IoU of exactly the threshold survives.
// keep (N, max_kept): indices of what is kept in order of score, -1 behind; kept_counts (N).
// Boxes with NaN coordinates or NaN score are never kept. K may be 0; on the device it is at most kMaxNmsCandidates.
// The test is boxes_overlap_above of kernels/boxes/box_iou.h. workspace: nms_workspace int64 values, on the device at
// most about 16 MiB of overlaps per image whatever K is.
inline constexpr int64_t kMaxNmsCandidates = 380 * 1024;
int64_t nms_workspace(const Cpu&, int64_t N, int64_t K);
int64_t nms_workspace(const Cuda&, int64_t N, int64_t K);
void multiclass_nms(Cpu&, const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                    View<int32_t> kept_counts, View<int64_t> workspace);
void multiclass_nms(Cuda&, const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                    View<int32_t> kept_counts, View<int64_t> workspace);

// What both versions check first.
void check_multiclass_nms(const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                          View<int32_t> kept_counts, View<int64_t> workspace, int64_t workspace_size);

}  // namespace gradlibra::kernels
