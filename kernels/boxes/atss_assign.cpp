// SPDX-License-Identifier: MIT
// ATSS on the host: objects find candidates and thresholds in parallel, then anchors their objects.
#include "kernels/boxes/atss_assign.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/boxes/atss_threshold.h"
#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.h"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

constexpr int32_t kNone = -1;  // a level with fewer anchors than candidates

}  // namespace

int64_t atss_assign_workspace(int64_t N, int64_t M, int64_t levels, const AtssAssign& options) {
  return N * M + (N * M * levels * options.topk + 1) / 2;
}

void check_atss_assign(View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                       View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                       View<int32_t> assigned, View<double> workspace) {
  const char* op = "atss_assign";
  require(assigned.rank() == 2, op, "assigned must be (N, P), is " + assigned.shape().to_string());
  require(gt_boxes.rank() == 3, op, "gt_boxes must be (N, M, 4), are " + gt_boxes.shape().to_string());
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  const auto levels = static_cast<int64_t>(level_rows.size());
  require(options.topk >= 1 && options.topk <= kMaxNearest, op,
          "topk must be 1 to 16, is " + std::to_string(options.topk));
  require(levels <= kMaxAtssLevels, op, std::to_string(levels) + " levels are more than 8");
  require(std::accumulate(level_rows.begin(), level_rows.end(), int64_t{0}) == P, op,
          "the levels' anchors are not " + std::to_string(P) + " together");
  require_shape(op, "anchors", anchors, {P, 4});
  require_shape(op, "gt_boxes", gt_boxes, {N, M, 4});
  require_shape(op, "gt_counts", gt_counts, {N});
  if (valid.data() != nullptr) require_shape(op, "valid", valid, {N, P});
  require(workspace.size() >= atss_assign_workspace(N, M, levels, options), op, "workspace is too small");
}

void atss_assign(Cpu& cpu, View<const float> anchors, std::span<const int64_t> level_rows, View<const float> gt_boxes,
                 View<const int32_t> gt_counts, View<const uint8_t> valid, const AtssAssign& options,
                 View<int32_t> assigned, View<double> workspace) {
  check_atss_assign(anchors, level_rows, gt_boxes, gt_counts, valid, options, assigned, workspace);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1), k = options.topk;
  const PaddedBoxes gt{gt_boxes.data(), gt_counts.data(), N, M};
  const auto levels = static_cast<int64_t>(level_rows.size());
  double* thresholds = workspace.data();
  auto* candidates = reinterpret_cast<int32_t*>(workspace.data() + N * M);  // (N, M, levels, k)

  parallel_for(cpu, N * M, 1, [&](int64_t id) {
    const int64_t n = id / M;
    if (id % M >= gt.count(n)) return;
    const float* object = gt_boxes.data() + 4 * id;
    const CentredBox centre = centred_box(object);
    std::array<float, kMaxAtssLevels * kMaxNearest> overlaps;
    int count = 0;
    int64_t first = 0;
    for (int64_t l = 0; l < levels; first += level_rows[static_cast<size_t>(l++)]) {
      int32_t* nearest = candidates + (id * levels + l) * k;
      nearest_priors(first, first + level_rows[static_cast<size_t>(l)], options.topk, kNone, nearest, 1,
                     [&](int64_t p) {
                       return takes_part(valid.data(), n * P + p)
                                  ? squared_centre_distance(centred_box(anchors.data() + 4 * p), centre)
                                  : std::numeric_limits<double>::infinity();
                     });
      for (int64_t j = 0; j < k && nearest[j] != kNone; ++j)
        overlaps[static_cast<size_t>(count++)] = box_iou(anchors.data() + 4 * int64_t{nearest[j]}, object);
    }
    thresholds[id] = atss_threshold(overlaps.data(), count);
  });

  parallel_for(cpu, N, 1, [&](int64_t n) {
    int64_t first = 0;
    for (int64_t l = 0; l < levels; first += level_rows[static_cast<size_t>(l++)])
      for (int64_t p = first; p < first + level_rows[static_cast<size_t>(l)]; ++p) {
        int32_t& owner = assigned[n * P + p];
        owner = takes_part(valid.data(), n * P + p) ? 0 : -1;
        if (owner < 0) continue;
        const float* anchor = anchors.data() + 4 * p;
        float largest = -1;
        for (int64_t g = 0; g < gt.count(n); ++g) {
          const float* object = gt_boxes.data() + 4 * (n * M + g);
          if (!centre_inside(anchor, object, kAtssMargin)) continue;
          const float iou = box_iou(anchor, object);
          if (!(static_cast<double>(iou) >= thresholds[n * M + g]) || iou <= largest) continue;
          const int32_t* nearest = candidates + ((n * M + g) * levels + l) * k;
          if (std::find(nearest, nearest + k, static_cast<int32_t>(p)) == nearest + k) continue;
          largest = iou;
          owner = static_cast<int32_t>(g + 1);
        }
      }
  });
}

}  // namespace gradlibra::kernels
