// SPDX-License-Identifier: MIT
// Before and after suppression: from the scores of all cells to an image's candidates, and from what is kept to its
// detections.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/boxes/sort_scores.h"
#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct CandidateOptions {
  float score_threshold = 0.05f;  // strict; finite
  int64_t nms_pre = 1000;         // candidates of a level; 0 or less: all
  bool keep_empty_boxes = false;
};

// What may be suppressed, padded to K = candidates_per_image(..) rows. Behind the counts[n] real ones: boxes and scores
// 0, the rest -1.
struct Candidates {
  View<float> boxes;      // (N, K, 4): x1, y1, x2, y2, clipped to the image
  View<float> scores;     // (N, K)
  View<int32_t> labels;   // (N, K)
  View<int32_t> sources;  // (N, K): cell * C + class, cells counted over all levels
  View<int32_t> counts;   // (N)
};

// scores (N, P, C), boxes (N, P, 4) of the cells of all levels, factors (N, P) of their scores (a null view: 1 each),
// level_rows[l] cells each (a host list, sum P); sizes (N, 2): height, width. MMDetection's filter_scores_and_topk and
// its box filter, for each image:
//  1. level after level the (cell, class) entries with score > score_threshold by score descending (ties: lower
//     cell * C + class; NaN never), of these the first nms_pre;
//  2. their scores multiplied by the cell's factor, which no threshold looks at;
//  3. their boxes clipped, x to [0, width] and y to [0, height]; those without area (NaN too) are dropped unless
//     keep_empty_boxes.
// Candidates come in this order. K = sum over levels of min(nms_pre, rows * C), so shapes follow from shapes, never
// from scores. P * C < 2^31, at most kMaxSegments levels; any dimension may be 0. workspace:
// select_candidates_workspace int64 values.
int64_t candidates_per_image(std::span<const int64_t> level_rows, int64_t C, int64_t nms_pre);
int64_t select_candidates_workspace(const Cpu&, int64_t N, int64_t P, int64_t C, int64_t K);
int64_t select_candidates_workspace(const Cuda&, int64_t N, int64_t P, int64_t C, int64_t K);
void select_candidates(Cpu&, View<const float> scores, View<const float> factors, View<const float> boxes,
                       std::span<const int64_t> level_rows, View<const int32_t> sizes, const CandidateOptions& options,
                       const Candidates& candidates, View<int64_t> workspace);
void select_candidates(Cuda&, View<const float> scores, View<const float> factors, View<const float> boxes,
                       std::span<const int64_t> level_rows, View<const int32_t> sizes, const CandidateOptions& options,
                       const Candidates& candidates, View<int64_t> workspace);

// detections (N, D, 6): x1, y1, x2, y2, score, label of candidate keep[n, d]; label -1 and the rest 0 where keep is -1.
// boxes (N, K, 4), scores (N, K), labels (N, K), 0 <= label < 2^24 (exact as a float); keep (N, D) of multiclass_nms.
void gather_detections(Cpu&, View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                       View<const int32_t> keep, View<float> detections);
void gather_detections(Cuda&, View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                       View<const int32_t> keep, View<float> detections);

// What both versions check first, and the call of sort_scores with which they begin: step 1 as a sort of the entries of
// each level.
struct LevelSort {
  View<const float> entries;  // (N, P * C)
  std::array<int64_t, kMaxSegments> lengths;
  int levels;
  int64_t limit;
  float lowest;
  View<int32_t> order;  // (N, K), in the workspace
  View<int64_t> workspace;
  [[nodiscard]] std::span<const int64_t> segments() const { return {lengths.data(), static_cast<size_t>(levels)}; }
};
LevelSort check_select_candidates(View<const float> scores, View<const float> factors, View<const float> boxes,
                                  std::span<const int64_t> level_rows, View<const int32_t> sizes,
                                  const CandidateOptions& options, const Candidates& candidates,
                                  View<int64_t> workspace, int64_t workspace_size);
void check_gather_detections(View<const float> boxes, View<const float> scores, View<const int32_t> labels,
                             View<const int32_t> keep, View<float> detections);

}  // namespace gradlibra::kernels
