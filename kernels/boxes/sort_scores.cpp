// SPDX-License-Identifier: MIT
// Sorted segments on the host, one segment of one row per task.
#include "kernels/boxes/sort_scores.h"

#include <algorithm>

#include "kernels/boxes/sort_key.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t sorted_size(std::span<const int64_t> lengths, int64_t limit) {
  int64_t size = 0;
  for (const int64_t length : lengths) size += std::min(limit, length);
  return size;
}

int64_t sort_scores_workspace(const Cpu&, int64_t N, int64_t E) { return N * E; }

Segments check_sort_scores(View<const float> scores, std::span<const int64_t> lengths, int64_t limit,
                           View<int32_t> order, View<int64_t> workspace, int64_t workspace_size) {
  require(scores.rank() == 2, "sort_scores", "scores must be (N, E), are " + scores.shape().to_string());
  const int64_t N = scores.dim(0), E = scores.dim(1);
  require(E <= INT32_MAX, "sort_scores", "a row has " + std::to_string(E) + " scores, more than 2^31 - 1");
  require(lengths.size() <= kMaxSegments, "sort_scores",
          std::to_string(lengths.size()) + " segments, at most " + std::to_string(kMaxSegments) + " are possible");
  require(limit >= 0, "sort_scores", "limit must not be negative, is " + std::to_string(limit));
  Segments segments;
  int64_t first = 0, sorted_first = 0;
  for (const int64_t length : lengths) {
    require(length >= 0 && length <= E - first, "sort_scores",
            "a segment of " + std::to_string(length) + " from element " + std::to_string(first) + " of " +
                std::to_string(E));
    const int64_t sorted_length = std::min(limit, length);
    segments.at[segments.count++] = {static_cast<int32_t>(first), static_cast<int32_t>(length),
                                     static_cast<int32_t>(sorted_first), static_cast<int32_t>(sorted_length)};
    segments.longest = std::max(segments.longest, length);
    first += length;
    sorted_first += sorted_length;
  }
  require(first == E, "sort_scores",
          "the segments have " + std::to_string(first) + " elements, a row has " + std::to_string(E));
  require_shape("sort_scores", "order", order, {N, sorted_first});
  require(workspace.size() >= workspace_size, "sort_scores",
          "workspace has " + std::to_string(workspace.size()) + " values, needs " + std::to_string(workspace_size));
  return segments;
}

void sort_scores(Cpu& cpu, View<const float> scores, std::span<const int64_t> lengths, int64_t limit, float lowest,
                 View<int32_t> order, View<int64_t> workspace) {
  const int64_t N = scores.dim(0), E = scores.dim(1);
  const Segments segments =
      check_sort_scores(scores, lengths, limit, order, workspace, sort_scores_workspace(cpu, N, E));
  const int64_t O = order.dim(1);
  parallel_for(cpu, N * segments.count, 1, [&](int64_t task) {
    const int64_t n = task / segments.count;
    const Segment s = segments.at[task % segments.count];
    const float* row = scores.data() + n * E;
    auto* const keys = reinterpret_cast<uint64_t*>(workspace.data()) + n * E + s.first;
    uint64_t* end = keys;
    for (int32_t i = s.first; i < s.first + s.length; ++i)
      if (row[i] >= lowest) *end++ = sort_key(row[i], i, true);
    uint64_t* const sorted_end = keys + std::min<int64_t>(end - keys, s.sorted_length);
    if (sorted_end < end)
      std::partial_sort(keys, sorted_end, end);
    else
      std::sort(keys, end);
    int32_t* const sorted = order.data() + n * O + s.sorted_first;
    std::fill(std::transform(keys, sorted_end, sorted, sorted_index), sorted + s.sorted_length, -1);
  });
}

}  // namespace gradlibra::kernels
