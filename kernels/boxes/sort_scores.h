// SPDX-License-Identifier: MIT
// The best scores of each segment in descending order: what selection and suppression start from.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// scores (N, E). Every row is cut into the same consecutive segments, `lengths` elements each (sum E, at most
// kMaxSegments of them). Of each segment the entries with score >= lowest (NaN never is) in descending order, at ties
// (0 and -0 are one) the lower index first; of these the first `limit`, which may be 0 or more than there are.
// order (N, O), O = sorted_size(lengths, limit): segment after segment min(limit, length) indices into the row, -1
// where there are fewer. E < 2^31; N, E and lengths may be 0. workspace: sort_scores_workspace int64 values, what they
// hold does not matter.
inline constexpr int kMaxSegments = 16;
int64_t sorted_size(std::span<const int64_t> lengths, int64_t limit);
int64_t sort_scores_workspace(const Cpu&, int64_t N, int64_t E);
int64_t sort_scores_workspace(const Cuda&, int64_t N, int64_t E);
void sort_scores(Cpu&, View<const float> scores, std::span<const int64_t> lengths, int64_t limit, float lowest,
                 View<int32_t> order, View<int64_t> workspace);
void sort_scores(Cuda&, View<const float> scores, std::span<const int64_t> lengths, int64_t limit, float lowest,
                 View<int32_t> order, View<int64_t> workspace);

// Where a segment lies in a row of scores and in one of `order`.
struct Segment {
  int32_t first, length;
  int32_t sorted_first, sorted_length;
};
struct Segments {
  int count = 0;
  int64_t longest = 0;
  Segment at[kMaxSegments];
};
// What both versions check first.
Segments check_sort_scores(View<const float> scores, std::span<const int64_t> lengths, int64_t limit,
                           View<int32_t> order, View<int64_t> workspace, int64_t workspace_size);

}  // namespace gradlibra::kernels
