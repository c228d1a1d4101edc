// SPDX-License-Identifier: MIT
// Sorted segments on the host: a worked example, ties, NaN, thresholds, limits, random cases against a stable sort.
#include "kernels/boxes/sort_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/kernels/vectors.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;
using Lengths = std::vector<int64_t>;

Ints sorted(int64_t N, const std::vector<float>& scores, const Lengths& lengths, int64_t limit,
            float lowest = -kInfinity, int threads = 2) {
  Cpu cpu(threads);
  const int64_t E = static_cast<int64_t>(scores.size()) / N, O = sorted_size(lengths, limit);
  Ints order(static_cast<size_t>(N * O), -77);
  std::vector<int64_t> workspace(static_cast<size_t>(sort_scores_workspace(cpu, N, E)), -77);
  sort_scores(cpu, view(scores, {N, E}), lengths, limit, lowest, view(order, {N, O}),
              view(workspace, {static_cast<int64_t>(workspace.size())}));
  return order;
}

TEST(SortScores, TwoRowsOfTwoSegments) {
  EXPECT_EQ(sorted(2, {0.1f, 0.3f, 0.2f, 0.9f, 0.5f, 0.6f, 0.7f, 0.8f, 0.1f, 0.2f}, {3, 2}, 2),
            (Ints{1, 2, 3, 4, 2, 1, 4, 3}));
}

TEST(SortScores, TiesGoToTheLowerIndexAndZeroHasNoSign) {
  EXPECT_EQ(sorted(1, {0.5f, 0.9f, 0.5f, 0.9f}, {4}, 9), (Ints{1, 3, 0, 2}));
  EXPECT_EQ(sorted(1, {-0.f, 0.f, -0.f, 0.f}, {4}, 9), (Ints{0, 1, 2, 3}));
  EXPECT_EQ(sorted(1, {-1, 1, -kInfinity, kInfinity, 1e-45f, -1e-45f, 0}, {7}, 9), (Ints{3, 1, 4, 6, 5, 0, 2}));
}

TEST(SortScores, LeavesOutNaNAndWhatIsLower) {
  EXPECT_EQ(sorted(1, {kNaN, 0.5f, -kNaN, 0.4f}, {4}, 9), (Ints{1, 3, -1, -1}));
  EXPECT_EQ(sorted(1, {0.5f, 0.4f, std::nextafter(0.5f, 0.f)}, {3}, 9, 0.5f), (Ints{0, -1, -1}));
  EXPECT_EQ(sorted(1, {0.5f, 0.4f}, {2}, 9, kNaN), (Ints{-1, -1}));
  EXPECT_EQ(sorted(1, {-kInfinity}, {1}, 9), Ints{0});
}

TEST(SortScores, Empty) {
  EXPECT_EQ(sorted(1, {0.5f, 0.4f}, {2}, 0), Ints{});
  EXPECT_EQ(sorted(1, {0.5f, 0.4f}, {0, 1, 0, 1, 0}, 3), (Ints{0, 1}));
  EXPECT_EQ(sorted(3, {}, {0, 0}, 3), Ints{});
  EXPECT_EQ(sorted(3, {}, {}, 3), Ints{});
}

TEST(SortScores, RandomCasesAreAStableSort) {
  std::mt19937 rng(5);
  for (const Lengths& lengths : {Lengths{1}, Lengths{700}, Lengths{5, 0, 300, 1, 64}})
    for (const int levels : {2, 64, 100000})
      for (const int64_t limit : {1, 7, 64, 1000}) {
        const int64_t N = 3;
        int64_t E = 0;
        for (const int64_t length : lengths) E += length;
        std::vector<float> scores;
        for (int64_t i = 0; i < N * E; ++i)
          scores.push_back(rng() % 10 == 0 ? kNaN : static_cast<float>(static_cast<int>(rng() % 2048) % levels) - 1);
        Ints want;
        for (int64_t n = 0; n < N; ++n)
          for (int64_t first = 0, s = 0; s < static_cast<int64_t>(lengths.size()); first += lengths[s++]) {
            Ints order;
            const auto score = [&](int64_t i) { return scores[static_cast<size_t>(n * E + i)]; };
            for (int64_t i = first; i < first + lengths[s]; ++i)
              if (score(i) >= 0) order.push_back(static_cast<int32_t>(i));
            std::stable_sort(order.begin(), order.end(), [&](int i, int j) { return score(i) > score(j); });
            order.resize(static_cast<size_t>(lengths[s]), -1);
            order.resize(static_cast<size_t>(std::min(lengths[s], limit)));
            want.insert(want.end(), order.begin(), order.end());
          }
        EXPECT_EQ(sorted(N, scores, lengths, limit, 0), want) << E << " " << levels << " " << limit;
        EXPECT_EQ(sorted(N, scores, lengths, limit, 0, 1), want);
      }
}

// No element is touched before all is checked.
TEST(SortScores, NamesWhatIsWrong) {
  Cpu cpu(1);
  const auto message = [&](Shape scores, const Lengths& lengths, int64_t limit, Shape order, int64_t workspace) {
    return message_of<std::invalid_argument>([&] {
      sort_scores(cpu, View<const float>(nullptr, scores), lengths, limit, 0, View<int32_t>(nullptr, order),
                  View<int64_t>(nullptr, {workspace}));
    });
  };
  const int64_t big = int64_t{1} << 31;
  EXPECT_EQ(message({2, 3, 1}, {6}, 1, {2, 1}, 6), "sort_scores: scores must be (N, E), are (2, 3, 1)");
  EXPECT_EQ(message({1, big}, {big}, 1, {1, 1}, big), "sort_scores: a row has 2147483648 scores, more than 2^31 - 1");
  EXPECT_EQ(message({1, 17}, Lengths(17, 1), 1, {1, 17}, 17), "sort_scores: 17 segments, at most 16 are possible");
  EXPECT_EQ(message({1, 4}, {4}, -1, {1, 0}, 4), "sort_scores: limit must not be negative, is -1");
  EXPECT_EQ(message({1, 4}, {3, 2}, 9, {1, 5}, 4), "sort_scores: a segment of 2 from element 3 of 4");
  EXPECT_EQ(message({1, 4}, {5, -1}, 9, {1, 4}, 4), "sort_scores: a segment of 5 from element 0 of 4");
  EXPECT_EQ(message({1, 4}, {3}, 9, {1, 3}, 4), "sort_scores: the segments have 3 elements, a row has 4");
  EXPECT_EQ(message({1, 4}, {4}, 2, {1, 4}, 4), "sort_scores: order has shape (1, 4), expected (1, 2)");
  EXPECT_EQ(message({1, 4}, {4}, 2, {1, 2}, 3), "sort_scores: workspace has 3 values, needs 4");
}

}  // namespace
}  // namespace gradlibra::kernels
