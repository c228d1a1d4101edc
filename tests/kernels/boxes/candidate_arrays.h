// SPDX-License-Identifier: MIT
// What select_candidates writes, on the host, and random scores of cells for it to choose from.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/boxes/select_candidates.h"
#include "tests/kernels/boxes/assign_cases.h"
#include "tests/support.h"

namespace gradlibra::testing {

struct CandidateArrays {
  std::vector<float> boxes, scores;
  std::vector<int32_t> labels, sources, counts;
};

struct Cells {
  int64_t N, C;
  std::vector<int64_t> level_rows;
  std::vector<float> scores, boxes;
  std::vector<int32_t> sizes;       // all images are to be cut, none is like the next
  std::vector<float> factors = {};  // of the scores; none: 1 each

  [[nodiscard]] int64_t P() const {
    int64_t P = 0;
    for (const int64_t rows : level_rows) P += rows;
    return P;
  }
};

// Scores are multiples of 1 / `values`, so that many tie, and one in twenty is NaN; so is a corner of some boxes.
inline Cells random_cells(int64_t N, int64_t C, const std::vector<int64_t>& level_rows, unsigned values,
                          std::mt19937& rng) {
  Cells cells{N, C, level_rows, {}, {}, {}};
  for (int64_t i = 0; i < N * cells.P() * C; ++i)
    cells.scores.push_back(rng() % 20 == 0 ? kNaN
                                           : static_cast<float>(rng() % (values + 1)) / static_cast<float>(values));
  cells.boxes = random_boxes(N * cells.P(), 64, 2, rng);
  for (size_t i = 0; i < cells.boxes.size(); i += 4) {
    if (rng() % 20 == 0) cells.boxes[i + rng() % 4] = kNaN;
    if (rng() % 8 == 0) cells.boxes[i] -= 30;
  }
  for (int32_t n = 0; n < N; ++n) cells.sizes.insert(cells.sizes.end(), {40 + 3 * n, 60 - 2 * n});
  return cells;
}

inline CandidateArrays select_on_host(const Cells& cells, const kernels::CandidateOptions& options, int threads = 2) {
  Cpu cpu(threads);
  const int64_t N = cells.N, P = cells.P(), C = cells.C;
  const int64_t K = kernels::candidates_per_image(cells.level_rows, C, options.nms_pre);
  const auto rows = static_cast<size_t>(N * K);
  CandidateArrays out{std::vector<float>(4 * rows, -77), std::vector<float>(rows, -77), std::vector<int32_t>(rows, -77),
                      std::vector<int32_t>(rows, -77), std::vector<int32_t>(static_cast<size_t>(N), -77)};
  std::vector<int64_t> workspace(static_cast<size_t>(kernels::select_candidates_workspace(cpu, N, P, C, K)), -77);
  kernels::select_candidates(
      cpu, View<const float>(cells.scores.data(), {N, P, C}),
      cells.factors.empty() ? View<const float>() : View<const float>(cells.factors.data(), {N, P}),
      View<const float>(cells.boxes.data(), {N, P, 4}), cells.level_rows,
      View<const int32_t>(cells.sizes.data(), {N, 2}), options,
      {View<float>(out.boxes.data(), {N, K, 4}), View<float>(out.scores.data(), {N, K}),
       View<int32_t>(out.labels.data(), {N, K}), View<int32_t>(out.sources.data(), {N, K}),
       View<int32_t>(out.counts.data(), {N})},
      View<int64_t>(workspace.data(), {static_cast<int64_t>(workspace.size())}));
  return out;
}

}  // namespace gradlibra::testing
