// SPDX-License-Identifier: MIT
#include "data/slides/patch_grid.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/base/random.h"

namespace gradlibra {
namespace {

TEST(PatchGrid, AnExample) {
  using Starts = std::vector<int>;
  EXPECT_EQ(patch_starts(1600, 512, 128, Edge::move), (Starts{0, 384, 768, 1088}));  // the last would begin at 1152
  EXPECT_EQ(patch_starts(1600, 512, 0, Edge::pad), (Starts{0, 512, 1024, 1536}));    // 64 pixels in the last
  EXPECT_EQ(patch_starts(1024, 512, 0, Edge::pad), (Starts{0, 512}));
  EXPECT_EQ(patch_starts(1024, 512, 0, Edge::move), (Starts{0, 512}));
  for (const Edge edge : {Edge::move, Edge::pad}) {
    EXPECT_EQ(patch_starts(300, 512, 128, edge), Starts{0});
    EXPECT_EQ(patch_starts(512, 512, 511, edge), Starts{0});
    EXPECT_EQ(patch_starts(1, 1, 0, edge), Starts{0});
    EXPECT_EQ(patch_starts(3, 2, 1, edge), (Starts{0, 1}));
  }
  EXPECT_THROW(static_cast<void>(patch_starts(100, 10, 10, Edge::move)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(patch_starts(0, 10, 1, Edge::move)), std::invalid_argument);
  EXPECT_EQ(patch_starts(INT32_MAX, 1 << 30, 0, Edge::pad).size(), 2u);  // no overflow on the way
  EXPECT_EQ(count_patches(INT32_MAX, 32, 31), INT32_MAX - 31);
  EXPECT_THROW(static_cast<void>(count_patches(100, 10, 10)), std::invalid_argument);
}

// Every pixel is in a patch, neighbours share what they should, and nothing lies outside but padding.
TEST(PatchGrid, CoversEveryPixelForAllSizes) {
  RandomStream random(5);
  for (int trial = 0; trial < 4000; ++trial) {
    const int size = static_cast<int>(1 + random.uniform_int(40));
    const int overlap = static_cast<int>(random.uniform_int(size));
    const int length = static_cast<int>(1 + random.uniform_int(200));
    const Edge edge = trial % 2 == 0 ? Edge::move : Edge::pad;
    const std::vector<int> starts = patch_starts(length, size, overlap, edge);
    ASSERT_EQ(count_patches(length, size, overlap), static_cast<int64_t>(starts.size()));
    std::vector<int> covered(static_cast<size_t>(length), 0);
    for (size_t k = 0; k < starts.size(); ++k) {
      ASSERT_GE(starts[k], 0);
      ASSERT_LT(starts[k], length);
      if (edge == Edge::move && length >= size) {
        ASSERT_LE(starts[k] + size, length);
      }
      for (int p = starts[k]; p < std::min(starts[k] + size, length); ++p) ++covered[static_cast<size_t>(p)];
      if (k == 0) continue;
      const int shared = starts[k - 1] + size - starts[k];
      const bool last = k + 1 == starts.size();
      if (edge == Edge::move && last) {
        ASSERT_GE(shared, overlap);
      } else {
        ASSERT_EQ(shared, overlap);
      }
      ASSERT_LT(shared, size);  // no patch twice
      // No patch too many: the one before the last does not reach the end.
      if (last) {
        ASSERT_LT(starts[k - 1] + size, length);
      }
    }
    ASSERT_TRUE(std::all_of(covered.begin(), covered.end(), [](int c) { return c >= 1; }));
    if (edge == Edge::pad && overlap == 0) {
      ASSERT_TRUE(std::all_of(covered.begin(), covered.end(), [](int c) { return c == 1; }));
    }
  }
}

TEST(CutBox, AnExample) {
  const CutRule half;
  const Box box{500, 100, 540, 140};  // 12 of 40 columns in the first patch
  const CutBox left = cut_box(box, 0, 0, 512, half), right = cut_box(box, 512, 0, 512, half);
  EXPECT_EQ(left.fate, BoxFate::ignored);
  EXPECT_EQ(left.box, (Box{500, 100, 512, 140}));
  EXPECT_DOUBLE_EQ(left.visible, 0.3);
  EXPECT_EQ(right.fate, BoxFate::cut);
  EXPECT_EQ(right.box, (Box{0, 100, 28, 140}));
  EXPECT_EQ(cut_box(box, 384, 0, 512, half).fate, BoxFate::whole);
  EXPECT_EQ(cut_box(box, 384, 0, 512, half).box, (Box{116, 100, 156, 140}));
  EXPECT_EQ(cut_box(box, 540, 0, 512, half).fate, BoxFate::outside);  // touches from outside
  EXPECT_EQ(cut_box(box, 0, 0, 512, {.rest = CutRule::Rest::drop}).fate, BoxFate::dropped);
  EXPECT_EQ(cut_box(box, 0, 0, 512, {.share = 0.3}).fate, BoxFate::cut);  // the share itself is enough
  // Exactly one half on both sides: both have it, by the centre only the right one.
  const Box middle{502, 10, 522, 20};
  const CutRule centre{.by = CutRule::By::centre};
  EXPECT_EQ(cut_box(middle, 0, 0, 512, half).fate, BoxFate::cut);
  EXPECT_EQ(cut_box(middle, 512, 0, 512, half).fate, BoxFate::cut);
  EXPECT_EQ(cut_box(middle, 0, 0, 512, centre).fate, BoxFate::ignored);
  EXPECT_EQ(cut_box(middle, 512, 0, 512, centre).fate, BoxFate::cut);
  // Less than a pixel is left: nothing to ignore.
  EXPECT_EQ(cut_box({511.5F, 10, 522, 20}, 0, 0, 512, half).fate, BoxFate::dropped);
}

// Against pixels that are counted one by one, on boxes of whole pixels.
TEST(CutBox, AgreesWithCountedPixels) {
  RandomStream random(6);
  int fates[5] = {};
  for (int trial = 0; trial < 30000; ++trial) {
    const auto draw = [&](int n) { return static_cast<int>(random.uniform_int(n)); };
    const int size = 4 + draw(30), x = draw(40), y = draw(40);
    const int x1 = draw(50), y1 = draw(50), x2 = x1 + 1 + draw(30), y2 = y1 + 1 + draw(30);
    CutRule rule;
    rule.share = (1 + draw(20)) / 20.0;
    rule.by = draw(2) == 0 ? CutRule::By::area : CutRule::By::centre;
    rule.rest = draw(2) == 0 ? CutRule::Rest::ignore : CutRule::Rest::drop;
    int inside = 0, left = 1000, right = -1, top = 1000, bottom = -1;
    for (int v = y1; v < y2; ++v) {
      for (int u = x1; u < x2; ++u) {
        if (u < x || u >= x + size || v < y || v >= y + size) continue;
        ++inside;
        left = std::min(left, u - x);
        right = std::max(right, u - x + 1);
        top = std::min(top, v - y);
        bottom = std::max(bottom, v - y + 1);
      }
    }
    const int area = (x2 - x1) * (y2 - y1);
    const bool centre = x1 + x2 >= 2 * x && x1 + x2 < 2 * (x + size) && y1 + y2 >= 2 * y && y1 + y2 < 2 * (y + size);
    const bool enough = rule.by == CutRule::By::centre ? centre : static_cast<double>(inside) / area >= rule.share;
    const BoxFate want = inside == 0                          ? BoxFate::outside
                         : inside == area                     ? BoxFate::whole
                         : enough                             ? BoxFate::cut
                         : rule.rest == CutRule::Rest::ignore ? BoxFate::ignored
                                                              : BoxFate::dropped;
    const Box box{static_cast<float>(x1), static_cast<float>(y1), static_cast<float>(x2), static_cast<float>(y2)};
    const CutBox got = cut_box(box, x, y, size, rule);
    ASSERT_EQ(got.fate, want) << trial;
    ++fates[static_cast<int>(want)];
    if (want == BoxFate::outside) continue;
    ASSERT_EQ(got.box, (Box{static_cast<float>(left), static_cast<float>(top), static_cast<float>(right),
                            static_cast<float>(bottom)}));
    ASSERT_DOUBLE_EQ(got.visible, static_cast<double>(inside) / area);
  }
  for (const int count : fates) EXPECT_GT(count, 100);
}

TEST(PatchName, LeadsBackToThePlace) {
  EXPECT_EQ(patch_name("C_13509_-270720", 512, 0), "C_13509_-270720_x00512_y00000");
  for (const int x : {0, 7, 99999, 123456}) {
    const auto place = patch_place(patch_name("a_x1_y2_x", x, 3 * x) + ".png");
    ASSERT_TRUE(place.has_value());
    EXPECT_EQ(place->slide, "a_x1_y2_x");
    EXPECT_EQ(place->x, x);
    EXPECT_EQ(place->y, 3 * x);
  }
  for (const char* name :
       {"", "slide", "slide_x1", "slide_y1", "slide_x_y", "slide_x1_y2b", "slide_x1_y-2", "slide_y1_x2"})
    EXPECT_FALSE(patch_place(name).has_value()) << name;
}

}  // namespace
}  // namespace gradlibra
