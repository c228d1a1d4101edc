// SPDX-License-Identifier: MIT
// ATSS on the host: the worked example, ties, one candidate, random cases against the definition step by step.
#include "kernels/boxes/atss_assign.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/boxes/atss_threshold.h"
#include "tests/kernels/boxes/anchor_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

struct Result {
  Ints assigned;
  std::vector<double> thresholds;  // (N, M)
  Ints candidates;                 // (N, M, levels, topk)
};

Result run(const std::vector<float>& anchors, const std::vector<int64_t>& level_rows, const std::vector<float>& gt,
           const Ints& counts, const AtssAssign& options = {}, const std::vector<uint8_t>& valid = {},
           int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(anchors.size()) / 4, N = static_cast<int64_t>(counts.size());
  const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N, levels = static_cast<int64_t>(level_rows.size());
  Result r{Ints(static_cast<size_t>(N * P), -77), {}, {}};
  std::vector<double> workspace(static_cast<size_t>(atss_assign_workspace(N, M, levels, options)), kNaN);
  atss_assign(cpu, view(anchors, {P, 4}), level_rows, view(gt, {N, M, 4}), view(counts, {N}),
              valid.empty() ? View<const uint8_t>() : view(valid, {N, P}), options, view(r.assigned, {N, P}),
              view(workspace, {static_cast<int64_t>(workspace.size())}));
  r.thresholds.assign(workspace.begin(), workspace.begin() + N * M);
  const auto* candidates = reinterpret_cast<const int32_t*>(workspace.data() + N * M);
  r.candidates.assign(candidates, candidates + N * M * levels * options.topk);
  return r;
}

TEST(AtssAssign, WorkedExample) {
  const auto example = read_vectors("anchors")["atss_assigner"];
  std::vector<float> anchors;
  std::vector<int64_t> level_rows;
  for (const auto& level : example["inputs"]["h_w_stride_scale"]) {
    const auto squares = square_anchors({{level[0], level[1], level[2]}}, {level[3]});
    anchors.insert(anchors.end(), squares.begin(), squares.end());
    level_rows.push_back(static_cast<int64_t>(squares.size()) / 4);
  }
  const Result got =
      run(anchors, level_rows, flatten<float>(example["inputs"]["gt"]), {3}, {.topk = example["inputs"]["topk"]});
  EXPECT_EQ(got.assigned, flatten<int32_t>(example["expected"]["assigned"]));
  for (size_t g = 0; g < 3; ++g) {
    const auto& want = example["expected"]["per_gt"][g];
    EXPECT_TRUE(near(got.thresholds[g], want["thr"], 1e-7)) << g;
    auto candidates = flatten<int32_t>(want["candidates"]);
    candidates.push_back(-1);  // the second level has four anchors only
    EXPECT_EQ(Ints(got.candidates.begin() + static_cast<int64_t>(10 * g),
                   got.candidates.begin() + static_cast<int64_t>(10 * (g + 1))),
              candidates)
        << g;
  }
}

TEST(AtssThreshold, MeanAndSampleDeviation) {
  const float overlaps[4] = {0.25f, 0.5f, 0.75f, 0.5f};
  EXPECT_DOUBLE_EQ(atss_threshold(overlaps, 4), 0.5 + std::sqrt(0.125 / 3));
  EXPECT_TRUE(std::isnan(atss_threshold(overlaps, 1)));
  const float equal[3] = {0.3f, 0.3f, 0.3f};
  EXPECT_EQ(atss_threshold(equal, 3), double{0.3f});  // so that all of them pass
}

TEST(AtssAssign, Edges) {
  const auto anchors = square_anchors({{2, 2, 8}}, {2});
  // One candidate has no deviation, and is no positive however well it fits.
  EXPECT_EQ(run(anchors, {4}, {-8, -8, 8, 8}, {1}, {.topk = 1}).assigned, Ints(4, 0));
  // Four that overlap alike are all positive if their centres lie inside.
  EXPECT_EQ(run(anchors, {4}, {-4, -4, 12, 12}, {1}).assigned, Ints(4, 1));
  // Centres on the border, or less than 0.01 pixels inside, are not.
  EXPECT_EQ(run(anchors, {4}, {0, 0, 8, 8}, {1}).assigned, Ints(4, 0));
  EXPECT_EQ(run(anchors, {4}, {-0.009f, -0.009f, 8.009f, 8.009f}, {1}).assigned, Ints(4, 0));
  EXPECT_EQ(run(anchors, {4}, {-0.011f, -0.011f, 8.011f, 8.011f}, {1}).assigned, Ints(4, 1));
  // Of two objects that an anchor fits alike the first has it.
  EXPECT_EQ(run(anchors, {4}, {-4, -4, 12, 12, -4, -4, 12, 12}, {2}).assigned, Ints(4, 1));
  EXPECT_EQ(run(anchors, {4}, {}, {0}).assigned, Ints(4, 0));
  EXPECT_EQ(run(anchors, {4}, {-4, -4, 12, 12}, {0}).assigned, Ints(4, 0));
  EXPECT_TRUE(run({}, {0}, {0, 0, 4, 4}, {1}).assigned.empty());
  EXPECT_EQ(run(anchors, {4}, {kNaN, -4, 12, 12, -4, -4, 12, 12}, {2}).assigned, Ints(4, 2));
  EXPECT_EQ(run(anchors, {4}, {-4, -4, 12, 12}, {1}, {}, {1, 0, 1, 1}).assigned, (Ints{1, -1, 1, 1}));
}

// The definition, step by step in double, with matrices and sorts.
Ints by_definition(const std::vector<float>& anchors, const std::vector<int64_t>& level_rows,
                   const std::vector<float>& gt, const Ints& counts, const AtssAssign& options,
                   const std::vector<uint8_t>& valid) {
  const size_t N = counts.size(), P = anchors.size() / 4, M = gt.size() / 4 / N;
  Ints assigned(N * P, 0);
  for (size_t n = 0; n < N; ++n) {
    std::vector<double> best(P, -1);
    for (size_t p = 0; p < P; ++p)
      if (!valid.empty() && valid[n * P + p] == 0) assigned[n * P + p] = -1;
    for (size_t g = 0; g < static_cast<size_t>(counts[n]); ++g) {
      const float* object = &gt[4 * (n * M + g)];
      std::vector<double> iou(P), far(P);
      for (size_t p = 0; p < P; ++p) {
        const float* a = &anchors[4 * p];
        const double w = std::max(0.0, double{std::min(a[2], object[2])} - std::max(a[0], object[0])),
                     h = std::max(0.0, double{std::min(a[3], object[3])} - std::max(a[1], object[1]));
        const auto area = [](const float* b) { return (double{b[2]} - b[0]) * (double{b[3]} - b[1]); };
        iou[p] = w * h / std::max(area(a) + area(object) - w * h, 1e-6);
        const double dx = (double{a[0]} + a[2] - object[0] - object[2]) / 2,
                     dy = (double{a[1]} + a[3] - object[1] - object[3]) / 2;
        far[p] = dx * dx + dy * dy;
      }
      std::vector<size_t> candidates;
      size_t first = 0;
      for (const int64_t rows : level_rows) {
        std::vector<size_t> order;
        for (size_t p = first; p < first + static_cast<size_t>(rows); ++p)
          if (assigned[n * P + p] >= 0) order.push_back(p);
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return far[a] < far[b]; });
        order.resize(std::min(order.size(), static_cast<size_t>(options.topk)));
        candidates.insert(candidates.end(), order.begin(), order.end());
        first += static_cast<size_t>(rows);
      }
      double mean = 0, squares = 0;
      for (const size_t p : candidates) mean += iou[p];
      mean /= static_cast<double>(candidates.size());
      for (const size_t p : candidates) squares += (iou[p] - mean) * (iou[p] - mean);
      const double threshold = mean + std::sqrt(squares / (static_cast<double>(candidates.size()) - 1));
      for (const size_t p : candidates) {
        const double x = (double{anchors[4 * p]} + anchors[4 * p + 2]) / 2,
                     y = (double{anchors[4 * p + 1]} + anchors[4 * p + 3]) / 2;
        const double inside = std::min({x - object[0], y - object[1], object[2] - x, object[3] - y});
        // Equal overlaps of many candidates are a threshold of their own.
        if (!(iou[p] >= threshold - 1e-12) || !(inside > 0.01) || iou[p] <= best[p]) continue;
        best[p] = iou[p];
        assigned[n * P + p] = static_cast<int32_t>(g + 1);
      }
    }
  }
  return assigned;
}

TEST(AtssAssign, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(21);
  int positives = 0;
  for (int round = 0; round < 60; ++round) {
    const std::vector<Level> levels{{16 - round % 3, 16, 8}, {8, 8, 16}, {4, 4, 32}, {2, 2, 64}, {1, 1, 128}};
    std::vector<int64_t> level_rows;
    for (const Level& level : levels) level_rows.push_back(level.height * level.width);
    const auto anchors = square_anchors(levels, {round % 2 == 0 ? 8.0f : 2.0f});
    const int64_t P = static_cast<int64_t>(anchors.size()) / 4, N = 2, M = 1 + rng() % 7;
    const auto gt = random_boxes(N * M, 128, 0, rng);
    const Ints counts{static_cast<int32_t>(rng() % static_cast<uint32_t>(M + 1)), static_cast<int32_t>(M)};
    const AtssAssign options{.topk = round % 5 == 0 ? 16 : 9};
    const auto valid = random_flags(N * P, round % 4 == 0 ? 5 : 0, rng);
    const Ints want = by_definition(anchors, level_rows, gt, counts, options, valid);
    for (const int threads : {1, 3})
      ASSERT_EQ(run(anchors, level_rows, gt, counts, options, valid, threads).assigned, want) << round;
    for (const int32_t a : want) positives += a > 0;
  }
  EXPECT_GT(positives, 200);
}

TEST(AtssAssign, ShapesAreChecked) {
  const std::vector<float> anchors(8), gt(4);
  EXPECT_THROW(run(anchors, {1}, gt, {1}), std::invalid_argument);
  EXPECT_THROW(run(anchors, {2}, gt, {1}, {.topk = 0}), std::invalid_argument);
  EXPECT_THROW(run(anchors, {2}, gt, {1}, {.topk = 17}), std::invalid_argument);
  EXPECT_THROW(run(anchors, std::vector<int64_t>(9, 0), gt, {1}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
