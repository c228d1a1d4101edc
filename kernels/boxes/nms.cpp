// SPDX-License-Identifier: MIT
// Greedy non-maximum suppression on the host, one image per task.
#include "kernels/boxes/nms.h"

#include <algorithm>
#include <cmath>

#include "kernels/boxes/box_iou.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

// The order of the candidates, as int32.
int64_t nms_workspace(const Cpu&, int64_t N, int64_t K) { return (N * K + 1) / 2; }

void check_multiclass_nms(const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                          View<int32_t> kept_counts, View<int64_t> workspace, int64_t workspace_size) {
  const char* const op = "multiclass_nms";
  require(candidates.scores.rank() == 2 && keep.rank() == 2, op,
          "scores must be (N, K) and keep (N, max_kept), are " + candidates.scores.shape().to_string() + " and " +
              keep.shape().to_string());
  const int64_t N = candidates.scores.dim(0), K = candidates.scores.dim(1);
  require(K <= INT32_MAX && keep.dim(1) <= INT32_MAX, op,
          std::to_string(K) + " candidates per image, of which " + std::to_string(keep.dim(1)) +
              " may be kept: more than 2^31 - 1");
  require_shape(op, "boxes", candidates.boxes, {N, K, 4});
  require_shape(op, "labels", candidates.labels, {N, K});
  require_shape(op, "counts", candidates.counts, {N});
  require_shape(op, "keep", keep, {N, keep.dim(1)});
  require_shape(op, "kept_counts", kept_counts, {N});
  require(iou_threshold >= 0, op, "iou_threshold must not be negative, is " + std::to_string(iou_threshold));
  require(workspace.size() >= workspace_size, op,
          "workspace has " + std::to_string(workspace.size()) + " values, needs " + std::to_string(workspace_size));
}

void multiclass_nms(Cpu& cpu, const NmsCandidates& candidates, float iou_threshold, View<int32_t> keep,
                    View<int32_t> kept_counts, View<int64_t> workspace) {
  const int64_t N = candidates.scores.dim(0), K = candidates.scores.dim(1), max_kept = keep.dim(1);
  check_multiclass_nms(candidates, iou_threshold, keep, kept_counts, workspace, nms_workspace(cpu, N, K));
  parallel_for(cpu, N, 1, [&](int64_t n) {
    const float* box = candidates.boxes.data() + n * K * 4;
    const float* score = candidates.scores.data() + n * K;
    const int32_t* label = candidates.labels.data() + n * K;
    int32_t* kept = keep.data() + n * max_kept;
    // Candidates in order of score, those suppressed marked -1 as we go.
    int32_t* const order = reinterpret_cast<int32_t*>(workspace.data()) + n * K;
    int32_t* end = order;
    for (int32_t i = 0; i < std::clamp<int64_t>(candidates.counts[n], 0, K); ++i) {
      const float* b = box + 4 * int64_t{i};
      if (!std::isnan(score[i]) && std::none_of(b, b + 4, [](float v) { return std::isnan(v); })) *end++ = i;
    }
    std::sort(order, end, [&](int32_t i, int32_t j) { return score[i] > score[j] || (score[i] == score[j] && i < j); });
    int64_t count = 0;
    for (int32_t* it = order; it != end && count < max_kept; ++it) {
      if (*it < 0) continue;
      const int32_t i = *it;
      kept[count++] = i;
      for (int32_t* later = it + 1; later != end; ++later) {
        const int32_t j = *later;
        if (j >= 0 && label[j] == label[i] &&
            boxes_overlap_above(box + 4 * int64_t{i}, box + 4 * int64_t{j}, iou_threshold))
          *later = -1;
      }
    }
    std::fill(kept + count, kept + max_kept, -1);
    kept_counts[n] = static_cast<int32_t>(count);
  });
}

}  // namespace gradlibra::kernels
