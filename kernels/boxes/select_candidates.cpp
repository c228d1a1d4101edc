// SPDX-License-Identifier: MIT
// Candidates on the host: sorted levels, then one image per task.
#include "kernels/boxes/select_candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/boxes/clip_box.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

// int64 values that hold (N, K) int32 values.
int64_t order_space(int64_t N, int64_t K) { return (N * K + 1) / 2; }

int64_t level_limit(int64_t nms_pre) { return nms_pre > 0 ? nms_pre : std::numeric_limits<int64_t>::max(); }

}  // namespace

int64_t candidates_per_image(std::span<const int64_t> level_rows, int64_t C, int64_t nms_pre) {
  int64_t K = 0;
  for (const int64_t rows : level_rows) K += std::min(level_limit(nms_pre), rows * C);
  return K;
}

int64_t select_candidates_workspace(const Cpu& cpu, int64_t N, int64_t P, int64_t C, int64_t K) {
  return sort_scores_workspace(cpu, N, P * C) + order_space(N, K);
}

LevelSort check_select_candidates(View<const float> scores, View<const float> factors, View<const float> boxes,
                                  std::span<const int64_t> level_rows, View<const int32_t> sizes,
                                  const CandidateOptions& options, const Candidates& candidates,
                                  View<int64_t> workspace, int64_t workspace_size) {
  const char* const op = "select_candidates";
  require(scores.rank() == 3, op, "scores must be (N, P, C), are " + scores.shape().to_string());
  const int64_t N = scores.dim(0), P = scores.dim(1), C = scores.dim(2);
  require(P * C <= INT32_MAX, op, std::to_string(P * C) + " scores per image, at most 2^31 - 1 are possible");
  require(level_rows.size() <= kMaxSegments, op,
          std::to_string(level_rows.size()) + " levels, at most " + std::to_string(kMaxSegments) + " are possible");
  require(std::isfinite(options.score_threshold), op,
          "score_threshold must be finite, is " + std::to_string(options.score_threshold));
  LevelSort sort{};
  int64_t rows_of_all = 0;
  for (const int64_t rows : level_rows) {
    require(rows >= 0, op, "a level has " + std::to_string(rows) + " cells");
    sort.lengths[static_cast<size_t>(sort.levels++)] = rows * C;
    rows_of_all += rows;
  }
  require(rows_of_all == P, op,
          "the levels have " + std::to_string(rows_of_all) + " cells, scores " + std::to_string(P));
  const int64_t K = candidates_per_image(level_rows, C, options.nms_pre);
  if (factors.data() != nullptr) require_shape(op, "factors", factors, {N, P});
  require_shape(op, "boxes", boxes, {N, P, 4});
  require_shape(op, "sizes", sizes, {N, 2});
  require_shape(op, "candidates.boxes", candidates.boxes, {N, K, 4});
  require_shape(op, "candidates.scores", candidates.scores, {N, K});
  require_shape(op, "candidates.labels", candidates.labels, {N, K});
  require_shape(op, "candidates.sources", candidates.sources, {N, K});
  require_shape(op, "candidates.counts", candidates.counts, {N});
  require(workspace.size() >= workspace_size, op,
          "workspace has " + std::to_string(workspace.size()) + " values, needs " + std::to_string(workspace_size));
  const int64_t sort_space = workspace_size - order_space(N, K);
  sort.entries = {scores.data(), {N, P * C}};
  sort.limit = level_limit(options.nms_pre);
  // Above the threshold is at least the next float.
  sort.lowest = std::nextafter(options.score_threshold, std::numeric_limits<float>::infinity());
  sort.order = {reinterpret_cast<int32_t*>(workspace.data() + sort_space), {N, K}};
  sort.workspace = {workspace.data(), {sort_space}};
  return sort;
}

void select_candidates(Cpu& cpu, View<const float> scores, View<const float> factors, View<const float> boxes,
                       std::span<const int64_t> level_rows, View<const int32_t> sizes, const CandidateOptions& options,
                       const Candidates& candidates, View<int64_t> workspace) {
  const int64_t N = scores.dim(0), P = scores.dim(1), C = scores.dim(2), K = candidates.scores.dim(1);
  const LevelSort sort = check_select_candidates(scores, factors, boxes, level_rows, sizes, options, candidates,
                                                 workspace, select_candidates_workspace(cpu, N, P, C, K));
  sort_scores(cpu, sort.entries, sort.segments(), sort.limit, sort.lowest, sort.order, sort.workspace);
  parallel_for(cpu, N, 1, [&](int64_t n) {
    int64_t count = n * K;
    for (int64_t k = n * K; k < (n + 1) * K; ++k) {
      const int32_t source = sort.order[k];
      if (source < 0) continue;
      const ClippedBox box = clip_box(boxes.data() + 4 * (n * P + source / C), sizes.data() + 2 * n);
      if (!options.keep_empty_boxes && !box.has_area()) continue;
      const float corners[4] = {box.x1, box.y1, box.x2, box.y2};
      std::copy(corners, corners + 4, candidates.boxes.data() + 4 * count);
      const float factor = factors.data() == nullptr ? 1 : factors[n * P + source / C];
      candidates.scores[count] = scores[n * P * C + source] * factor;
      candidates.labels[count] = static_cast<int32_t>(source % C);
      candidates.sources[count] = source;
      ++count;
    }
    candidates.counts[n] = static_cast<int32_t>(count - n * K);
    const int64_t end = (n + 1) * K;
    std::fill(candidates.boxes.data() + 4 * count, candidates.boxes.data() + 4 * end, 0.0f);
    std::fill(candidates.scores.data() + count, candidates.scores.data() + end, 0.0f);
    std::fill(candidates.labels.data() + count, candidates.labels.data() + end, -1);
    std::fill(candidates.sources.data() + count, candidates.sources.data() + end, -1);
  });
}

void check_gather_detections(View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                             View<const int32_t> keep, View<float> detections) {
  const char* const op = "gather_detections";
  require(
      scores.rank() == 2 && keep.rank() == 2, op,
      "scores must be (N, K) and keep (N, D), are " + scores.shape().to_string() + " and " + keep.shape().to_string());
  const int64_t N = scores.dim(0), K = scores.dim(1), D = keep.dim(1);
  require_shape(op, "boxes", boxes, {N, K, 4});
  require_shape(op, "labels", labels, {N, K});
  require_shape(op, "keep", keep, {N, D});
  require_shape(op, "detections", detections, {N, D, 6});
}

void gather_detections(Cpu& cpu, View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                       View<const int32_t> keep, View<float> detections) {
  check_gather_detections(boxes, scores, labels, keep, detections);
  const int64_t K = scores.dim(1), D = keep.dim(1);
  parallel_for(cpu, keep.size(), 1024, [&](int64_t row) {
    const int32_t kept = keep[row];
    const int64_t k = row / D * K + kept;
    float* const to = detections.data() + 6 * row;
    for (int64_t c = 0; c < 4; ++c) to[c] = kept < 0 ? 0 : boxes[4 * k + c];
    to[4] = kept < 0 ? 0 : scores[k];
    to[5] = kept < 0 ? -1 : static_cast<float>(labels[k]);
  });
}

}  // namespace gradlibra::kernels
