// SPDX-License-Identifier: MIT
#include "engine/scan/join_tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "data/metrics/box_overlap.h"

namespace gradlibra {
namespace {

bool same(const Detection& a, const Detection& b) { return a.box == b.box && a.label == b.label && a.score == b.score; }

TEST(JoinTiles, AnObjectOfTwoTilesIsOne) {
  const Detection first{{100, 100, 140, 140}, 0, 0.7}, again{{102, 99, 141, 140}, 0, 0.9};
  const Detection other_class{{101, 100, 140, 140}, 1, 0.6}, neighbour{{130, 100, 170, 140}, 0, 0.5};
  const auto joined = join_tiles({first, again, other_class, neighbour}, 0.5);
  ASSERT_EQ(joined.size(), 3u);
  EXPECT_TRUE(same(joined[0], again));
  EXPECT_TRUE(same(joined[1], other_class));
  EXPECT_TRUE(same(joined[2], neighbour));
}

// Boxes of all sizes, beyond a square of the grid and across its borders.
TEST(JoinTiles, IsWhatEveryPairWouldGive) {
  std::mt19937 random(11);
  std::uniform_real_distribution<float> place(0, 900), side(0, 300), score(0, 1);
  for (int round = 0; round < 20; ++round) {
    std::vector<Detection> found;
    for (int i = 0; i < 300; ++i) {
      const float x = place(random), y = place(random);
      // Coarse scores, so that some are equal.
      found.push_back({{x, y, x + side(random), y + side(random)}, i % 3, std::round(score(random) * 20) / 20});
    }
    std::vector<Detection> expected, sorted = found;
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    for (const Detection& d : sorted)
      if (std::none_of(expected.begin(), expected.end(), [&](const Detection& kept) {
            return kept.label == d.label && box_overlap(kept.box, d.box) > 0.3;
          }))
        expected.push_back(d);
    ASSERT_LT(expected.size(), found.size());
    const auto joined = join_tiles(found, 0.3);
    ASSERT_EQ(joined.size(), expected.size());
    for (size_t i = 0; i < joined.size(); ++i) EXPECT_TRUE(same(joined[i], expected[i])) << i;
  }
  EXPECT_TRUE(join_tiles({}, 0.5).empty());
}

}  // namespace
}  // namespace gradlibra
