// SPDX-License-Identifier: MIT
#include "data/slides/tile_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>

namespace gradlibra {
namespace {

bool covers(const Tile& tile, int width, int height, const Box& box) {
  return box.x1 >= static_cast<float>(tile.x) && box.y1 >= static_cast<float>(tile.y) &&
         box.x2 <= static_cast<float>(tile.x + width) && box.y2 <= static_cast<float>(tile.y + height);
}

TEST(TilePlan, WhereTilesLieAndWhatTheyAnswerFor) {
  // Along x: 0..64, 48..112, and the last moved in to 76..140. Middles of the overlaps 56 and 94, two pixels of slack.
  const std::vector<Tile> tiles = plan_tiles(140, 50, 64, 64, 16);
  ASSERT_EQ(tiles.size(), 3u);
  const int x[] = {0, 48, 76};
  const Box own[] = {{0, 0, 58, 50}, {54, 0, 96, 50}, {92, 0, 140, 50}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(tiles[i].x, x[i]);
    EXPECT_EQ(tiles[i].y, 0);
    EXPECT_EQ(tiles[i].own, own[i]) << i;
  }
  EXPECT_TRUE(tiles[1].owns({50, 10, 58, 20})) << "its centre is 54, the border that is in";
  EXPECT_FALSE(tiles[1].owns({92, 10, 100, 20})) << "96, the border that is out";
}

// Whatever is not larger than an overlap without its slack lies wholly in each tile that answers for it; and one does.
TEST(TilePlan, EveryObjectHasAnOwnerThatSeesItWhole) {
  std::mt19937 random(7);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int round = 0; round < 300; ++round) {
    const int width = draw(1, 400), height = draw(1, 400), tile_width = draw(16, 120), tile_height = draw(16, 120);
    const int overlap = draw(0, std::min(tile_width, tile_height) - 1);
    const std::vector<Tile> tiles = plan_tiles(width, height, tile_width, tile_height, overlap);
    EXPECT_TRUE(std::is_sorted(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) { return a.y < b.y; }));
    const int largest = std::max(0, overlap - 2 * tile_slack(overlap));
    for (int i = 0; i < 50; ++i) {
      const int w = draw(0, std::min(largest, width)), h = draw(0, std::min(largest, height));
      const int x = draw(0, width - std::max(w, 1)), y = draw(0, height - std::max(h, 1));
      const Box box{static_cast<float>(x), static_cast<float>(y), static_cast<float>(x + w), static_cast<float>(y + h)};
      int owners = 0;
      for (const Tile& tile : tiles) {
        if (!tile.owns(box)) continue;
        ++owners;
        EXPECT_TRUE(covers(tile, tile_width, tile_height, box))
            << width << " x " << height << ", tile " << tile_width << " x " << tile_height << ", overlap " << overlap
            << ": box at " << x << ", " << y;
      }
      EXPECT_GE(owners, 1);
    }
  }
}

TEST(TilePlan, RefusesAnOverlapThatLeavesNoStep) {
  EXPECT_THROW(static_cast<void>(plan_tiles(100, 100, 32, 64, 32)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(plan_tiles(100, 100, 32, 64, -1)), std::invalid_argument);
  EXPECT_EQ(plan_tiles(100'000, 80'000, 512, 512, 128).size(), 261u * 208u);
  EXPECT_THROW(static_cast<void>(plan_tiles(1'000'000, 1'000'000, 64, 64, 16)), std::invalid_argument) << "too many";
  // Before anything is allocated: the lists of these sides alone would take 25 GB each.
  EXPECT_THROW(static_cast<void>(plan_tiles(INT32_MAX, INT32_MAX, 16, 16, 15)), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
