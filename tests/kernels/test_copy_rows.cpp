// SPDX-License-Identifier: MIT
#include "kernels/copy_rows.h"

#include "tests/kernels/host_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

// Two levels of 2 and 1 rows of two images, one after the other, and the way back.
TEST(CopyRows, ConcatenatesLevelsAndSplitsTheirGradient) {
  Cpu cpu(1);
  const Floats fine({2, 2, 2}, {1, 2, 3, 4, 11, 12, 13, 14}), coarse({2, 1, 2}, {5, 6, 15, 16});
  Floats all({2, 3, 2});
  copy_rows(cpu, fine.view(), 0, all.view(), 0, 2, Accumulate::overwrite);
  copy_rows(cpu, coarse.view(), 0, all.view(), 2, 1, Accumulate::overwrite);
  EXPECT_EQ(all.values, (std::vector<float>{1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16}));

  Floats grad({2, 1, 2}, {100, 200, 300, 400});
  copy_rows(cpu, std::as_const(all).view(), 2, grad.view(), 0, 1, Accumulate::add);
  EXPECT_EQ(grad.values, (std::vector<float>{105, 206, 315, 416}));
}

TEST(CopyRows, LeavesOtherRowsAlone) {
  Cpu cpu(2);
  const Floats x = random_array({3, 700, 65}, 3);
  Floats y({3, 900, 65}, -7.0f);
  copy_rows(cpu, x.view(), 50, y.view(), 100, 650, Accumulate::overwrite);
  for (int64_t n = 0; n < 3; ++n)
    for (int64_t r = 0; r < 900; ++r)
      for (int64_t c = 0; c < 65; ++c) {
        const bool inside = r >= 100 && r < 750;
        ASSERT_EQ(y[(n * 900 + r) * 65 + c], inside ? x[(n * 700 + r - 50) * 65 + c] : -7.0f);
      }
}

TEST(CopyRows, EmptyAndOutOfRange) {
  Cpu cpu(1);
  Floats none({0, 4, 2}, {}), x({1, 4, 2}, 1.0f), y({1, 4, 2}, 2.0f), narrow({1, 4, 1}, 0.0f);
  copy_rows(cpu, none.view(), 0, none.view(), 0, 4, Accumulate::add);
  copy_rows(cpu, x.view(), 4, y.view(), 4, 0, Accumulate::overwrite);
  EXPECT_EQ(y.values, std::vector<float>(8, 2.0f));
  EXPECT_THROW(copy_rows(cpu, x.view(), 1, y.view(), 0, 4, Accumulate::add), std::invalid_argument);
  EXPECT_THROW(copy_rows(cpu, x.view(), 0, y.view(), -1, 2, Accumulate::add), std::invalid_argument);
  EXPECT_THROW(copy_rows(cpu, x.view(), 0, narrow.view(), 0, 2, Accumulate::add), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
