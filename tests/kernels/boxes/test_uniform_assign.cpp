// SPDX-License-Identifier: MIT
// Uniform matching on the host: the worked example, ties, padding, random cases against the definition step by step.
#include "kernels/boxes/uniform_assign.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "tests/kernels/boxes/anchor_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;

constexpr int32_t kUnwritten = -77;

struct Result {
  Ints assigned, pairs;
};

Result run(const std::vector<float>& anchors, const std::vector<float>& boxes, const std::vector<float>& gt,
           const Ints& counts, const UniformAssign& options = {}, const std::vector<uint8_t>& valid = {},
           int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(anchors.size()) / 4, N = static_cast<int64_t>(counts.size());
  const int64_t M = static_cast<int64_t>(gt.size()) / 4 / N, S = 2 * options.match_times;
  Result r{Ints(static_cast<size_t>(N * P), kUnwritten), Ints(static_cast<size_t>(N * S * M), kUnwritten)};
  uniform_assign(cpu, view(anchors, {P, 4}), view(boxes, {N, P, 4}), view(gt, {N, M, 4}), view(counts, {N}),
                 valid.empty() ? View<const uint8_t>() : view(valid, {N, P}), options, view(r.assigned, {N, P}),
                 view(r.pairs, {N, S, M}));
  return r;
}

// The list of an image's pairs as (prior, object, kept).
using Pairs = std::vector<std::tuple<int, int, bool>>;
Pairs listed(const Ints& pairs, int64_t M) {
  Pairs list;
  for (size_t i = 0; i < pairs.size(); ++i)
    if (pairs[i] != kNoPair)
      list.emplace_back(pairs[i] >= 0 ? pairs[i] : ~pairs[i], static_cast<int>(i % static_cast<size_t>(M)),
                        pairs[i] >= 0);
  return list;
}

TEST(UniformAssign, WorkedExample) {
  const auto example = read_vectors("anchors")["uniform_assigner"];
  const auto anchors = square_anchors({{2, 2, 32}}, {1, 2, 4, 8, 16});
  const auto gt = flatten<float>(example["inputs"]["gt"]);
  const Result got = run(anchors, flatten<float>(example["inputs"]["predicted"]), gt, {3});
  EXPECT_EQ(got.assigned, flatten<int32_t>(example["expected"]["assigned"]));
  Pairs want;
  for (const auto& pair : example["expected"]["pairs"]) want.emplace_back(pair[0], pair[1], pair[2]);
  EXPECT_EQ(listed(got.pairs, 3), want);
}

TEST(UniformAssign, TiesGoToTheLowerIndexAndPaddingIsSkipped) {
  // An object whose centre lies between four anchors of its size; predictions are the anchors themselves.
  const auto anchors = square_anchors({{2, 2, 32}}, {1});
  const Result got = run(anchors, anchors, {0, 0, 32, 32, 0, 0, 1, 1}, {1});
  EXPECT_EQ(listed(got.pairs, 2), (Pairs{{0, 0, false},
                                         {0, 0, false},
                                         {1, 0, false},
                                         {1, 0, false},
                                         {2, 0, false},
                                         {2, 0, false},
                                         {3, 0, false},
                                         {3, 0, false}}));
  EXPECT_EQ(got.assigned, (Ints{-1, -1, -1, -1}));  // each overlaps it by a seventh, less than 0.15
}

TEST(UniformAssign, TheLastPairDecides) {
  // Both objects choose the only anchor; the second has the last word, though it is the worse.
  const std::vector<float> anchor{0, 0, 10, 10};
  EXPECT_EQ(run(anchor, anchor, {0, 0, 10, 10, 0, 0, 10, 8}, {2}).assigned, (Ints{2}));
  EXPECT_EQ(run(anchor, anchor, {0, 0, 10, 10, 0, 0, 1, 1}, {2}).assigned, (Ints{-1}));
}

TEST(UniformAssign, APredictionThatFitsIsNoNegative) {
  const std::vector<float> anchors{0, 0, 10, 10, 100, 100, 110, 110}, gt{0, 0, 10, 10};
  const std::vector<float> boxes{0, 0, 10, 10, 0, 0, 10, 7};  // overlaps of 1 and exactly 0.7f
  EXPECT_EQ(run(anchors, boxes, gt, {1}, {.match_times = 1}).assigned, (Ints{1, 0}));
  EXPECT_EQ(run(anchors, boxes, gt, {1}, {.match_times = 1, .neg_ignore_iou = 0.69f}).assigned, (Ints{1, -1}));
}

TEST(UniformAssign, NothingToAssign) {
  const auto anchors = square_anchors({{1, 2, 32}}, {1});
  EXPECT_EQ(run(anchors, anchors, {}, {0}).assigned, (Ints{0, 0}));
  const Result padded = run(anchors, anchors, {0, 0, 9, 9}, {0});
  EXPECT_EQ(padded.assigned, (Ints{0, 0}));
  EXPECT_EQ(padded.pairs, Ints(8, kNoPair));
  EXPECT_TRUE(run({}, {}, {0, 0, 9, 9}, {1}).assigned.empty());
  // Predictions of NaN are near to nothing, and overlap nothing.
  const Result nan = run(anchors, std::vector<float>(8, kNaN), {0, 0, 32, 32}, {1});
  EXPECT_EQ(listed(nan.pairs, 1), (Pairs{{0, 0, false}, {1, 0, false}}));
}

// The definition, step by step in double, with lists and a sort.
Result by_definition(const std::vector<float>& anchors, const std::vector<float>& boxes, const std::vector<float>& gt,
                     const Ints& counts, const UniformAssign& options, const std::vector<uint8_t>& valid) {
  const size_t N = counts.size(), P = anchors.size() / 4, M = gt.size() / 4 / N,
               k = static_cast<size_t>(options.match_times);
  const auto iou = [](const float* a, const float* b) {
    const double w = std::max(0.0, double{std::min(a[2], b[2])} - std::max(a[0], b[0])),
                 h = std::max(0.0, double{std::min(a[3], b[3])} - std::max(a[1], b[1]));
    const auto area = [](const float* box) { return (double{box[2]} - box[0]) * (double{box[3]} - box[1]); };
    return w * h / std::max(area(a) + area(b) - w * h, 1e-6);
  };
  const auto cost = [](const float* a, const float* b) {
    double sum = 0;
    for (int axis = 0; axis < 2; ++axis)
      sum += std::abs((double{a[axis]} + a[axis + 2]) / 2 - (double{b[axis]} + b[axis + 2]) / 2) +
             std::abs((double{a[axis + 2]} - a[axis]) - (double{b[axis + 2]} - b[axis]));
    return sum;
  };
  Result r{Ints(N * P, 0), Ints(N * 2 * k * M, kNoPair)};
  for (size_t n = 0; n < N; ++n) {
    std::vector<size_t> taking_part;
    for (size_t p = 0; p < P; ++p)
      if (valid.empty() || valid[n * P + p] != 0)
        taking_part.push_back(p);
      else
        r.assigned[n * P + p] = -1;
    const auto objects = static_cast<size_t>(counts[n]);
    for (const size_t p : taking_part)
      for (size_t g = 0; g < objects; ++g)
        if (iou(&boxes[4 * (n * P + p)], &gt[4 * (n * M + g)]) > double{options.neg_ignore_iou})
          r.assigned[n * P + p] = -1;
    for (size_t g = 0; g < objects; ++g)
      for (size_t by_anchor = 0; by_anchor < 2; ++by_anchor) {
        std::vector<size_t> order = taking_part;
        const float* from = by_anchor == 1 ? anchors.data() : &boxes[4 * n * P];
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
          return cost(from + 4 * a, &gt[4 * (n * M + g)]) < cost(from + 4 * b, &gt[4 * (n * M + g)]);
        });
        for (size_t j = 0; j < std::min(k, order.size()); ++j) {
          const bool kept = iou(&anchors[4 * order[j]], &gt[4 * (n * M + g)]) >= double{options.pos_ignore_iou};
          const auto p = static_cast<int32_t>(order[j]);
          r.pairs[(n * 2 * k + 2 * j + by_anchor) * M + g] = kept ? p : ~p;
        }
      }
    for (size_t s = 0; s < 2 * k; ++s)
      for (size_t g = 0; g < objects; ++g) {
        const int32_t pair = r.pairs[(n * 2 * k + s) * M + g];
        if (pair == kNoPair) continue;
        r.assigned[n * P + static_cast<size_t>(pair >= 0 ? pair : ~pair)] =
            pair >= 0 ? static_cast<int32_t>(g + 1) : -1;
      }
  }
  return r;
}

TEST(UniformAssign, RandomCasesFollowTheDefinition) {
  std::mt19937 rng(12);
  int positives = 0, conflicts = 0;
  for (int round = 0; round < 60; ++round) {
    const auto anchors =
        square_anchors({{1 + static_cast<int>(rng() % 5), 1 + static_cast<int>(rng() % 5), 32}}, {1, 2, 4, 8, 16});
    const int64_t P = static_cast<int64_t>(anchors.size()) / 4, N = 2, M = 1 + rng() % 7;
    const float grid = round % 3 == 0 ? 16.0f : 0.0f;  // whole numbers tie often
    const auto gt = random_boxes(N * M, 128, grid, rng);
    std::vector<float> boxes;
    for (int64_t n = 0; n < N; ++n) boxes.insert(boxes.end(), anchors.begin(), anchors.end());
    if (round % 2 == 0)
      for (float& v : boxes) v += random_floats(1, rng, -20, 20)[0];
    const Ints counts{static_cast<int32_t>(rng() % static_cast<uint32_t>(M + 1)), static_cast<int32_t>(M)};
    const UniformAssign options{.match_times = 1 + static_cast<int>(rng() % 5)};
    const auto valid = random_flags(N * P, round % 4 == 0 ? 5 : 0, rng);
    const Result want = by_definition(anchors, boxes, gt, counts, options, valid);
    for (const int threads : {1, 3}) {
      const Result got = run(anchors, boxes, gt, counts, options, valid, threads);
      ASSERT_EQ(got.pairs, want.pairs) << round;
      ASSERT_EQ(got.assigned, want.assigned) << round;
    }
    for (const int32_t a : want.assigned) positives += a > 0, conflicts += a < 0;
  }
  EXPECT_GT(positives, 30);
  EXPECT_GT(conflicts, 100);
}

TEST(GatherPairs, RowsAndTheirGradient) {
  Cpu cpu(2);
  // Two images, one prediction and one anchor per object; image 0 has two objects, image 1 one and padding.
  const Ints pairs{1, ~0, 1, 2, 0, kNoPair, 2, kNoPair};
  const std::vector<float> gt = random_floats(16, 1), boxes = random_floats(24, 2);
  Floats rows({2, 2, 2, 4}), targets({2, 2, 2, 4}), weights({2, 2, 2});
  gather_pairs(cpu, view(pairs, {2, 2, 2}), view(boxes, {2, 3, 4}), view(gt, {2, 2, 4}), rows.view(), targets.view(),
               weights.view());
  EXPECT_EQ(weights.values, (std::vector<float>{1, 0, 1, 1, 1, 0, 1, 0}));
  for (size_t c = 0; c < 4; ++c) {
    const auto at = [&](int64_t i) { return 4 * i + static_cast<int64_t>(c); };
    EXPECT_EQ(rows[at(0)], boxes[4 + c]);
    EXPECT_EQ(rows[at(1)], 0);
    EXPECT_EQ(rows[at(3)], boxes[8 + c]);
    EXPECT_EQ(rows[at(6)], boxes[20 + c]);
    EXPECT_EQ(targets[at(2)], gt[c]);
    EXPECT_EQ(targets[at(3)], gt[4 + c]);
    EXPECT_EQ(targets[at(6)], gt[8 + c]);
    EXPECT_EQ(targets[at(7)], 0);
  }
  const Floats grad_rows = random_array({2, 2, 2, 4}, 3);
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    Floats grad({2, 3, 4}, 1.0f);
    gather_pairs_backward(cpu, view(pairs, {2, 2, 2}), grad_rows.view(), grad.view(), mode);
    const float base = mode == Accumulate::add ? 1.0f : 0.0f;
    for (int64_t c = 0; c < 4; ++c) {
      EXPECT_EQ(grad[c], base);                                          // prior 0 of image 0: only in a pair not kept
      EXPECT_EQ(grad[4 + c], (base + grad_rows[c]) + grad_rows[8 + c]);  // prior 1: twice
      EXPECT_EQ(grad[12 + c], base + grad_rows[16 + c]);
    }
  }
}

TEST(UniformAssign, ShapesAreChecked) {
  const std::vector<float> anchors(8), gt(4);
  EXPECT_THROW(run(anchors, anchors, gt, {1}, {.match_times = 0}), std::invalid_argument);
  EXPECT_THROW(run(anchors, anchors, gt, {1}, {.match_times = 17}), std::invalid_argument);
  Cpu cpu(1);
  Ints assigned(2), pairs(7);
  EXPECT_THROW(uniform_assign(cpu, view(anchors, {2, 4}), view(anchors, {1, 2, 4}), view(gt, {1, 1, 4}),
                              view(Ints{1}, {1}), {}, {}, view(assigned, {1, 2}), view(pairs, {1, 7, 1})),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
