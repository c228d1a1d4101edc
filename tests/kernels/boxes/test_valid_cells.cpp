// SPDX-License-Identifier: MIT
// Cells in the padding of a batch, on the host.
#include "kernels/boxes/valid_cells.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/image_normalize.h"
#include "tests/kernels/boxes/assign_cases.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

std::vector<uint8_t> run(const std::vector<float>& priors, const std::vector<int32_t>& sizes,
                         const std::vector<int32_t>& orientations, int divisor = 32) {
  Cpu cpu(2);
  const auto N = static_cast<int64_t>(orientations.size()), P = static_cast<int64_t>(priors.size()) / 3;
  std::vector<uint8_t> valid(static_cast<size_t>(N * P), 77);
  valid_cells(cpu, view(priors, {P, 3}), view(sizes, {N, 2}), view(orientations, {N}), divisor, view(valid, {N, P}));
  return valid;
}

// In a batch of 128 x 192 pixels: an image of 33 x 70 counts as 64 x 96.
TEST(ValidCells, CeilingOfThePaddedSize) {
  const std::vector<Level> levels{{16, 24, 8}, {2, 3, 64}, {1, 2, 128}};
  const std::vector<float> priors = point_priors(levels);
  const auto valid = run(priors, {128, 192, 33, 70, 0, 0}, {0, 0, 0});
  const size_t P = priors.size() / 3;
  for (size_t p = 0; p < P; ++p) {
    EXPECT_EQ(valid[p], 1);
    const float x = priors[3 * p], y = priors[3 * p + 1], stride = priors[3 * p + 2];
    const bool inside = x / stride < std::ceil(96 / stride) && y / stride < std::ceil(64 / stride);
    EXPECT_EQ(valid[P + p], inside ? 1 : 0) << x << " " << y << " " << stride;
    EXPECT_EQ(valid[2 * P + p], 0);
  }
  EXPECT_EQ(std::accumulate(valid.begin() + static_cast<long>(P), valid.end(), 0), 8 * 12 + 2 + 1);
}

TEST(ValidCells, TransposedImagesSwapTheirSides) {
  const std::vector<float> priors = point_priors({{2, 2, 32}});
  EXPECT_EQ(run(priors, {32, 64}, {0}), (std::vector<uint8_t>{1, 1, 0, 0}));
  EXPECT_EQ(run(priors, {32, 64}, {kTranspose | kFlipVertical}), (std::vector<uint8_t>{1, 0, 1, 0}));
  EXPECT_EQ(run(priors, {32, 64}, {kFlipHorizontal}), (std::vector<uint8_t>{1, 1, 0, 0}));
  EXPECT_EQ(run(priors, {1, 33}, {0}), (std::vector<uint8_t>{1, 1, 0, 0}));
  EXPECT_EQ(run(priors, {1, 33}, {0}, 16), (std::vector<uint8_t>{1, 1, 0, 0}));
}

TEST(ValidCells, Empty) {
  EXPECT_TRUE(run({}, {1, 1}, {0}).empty());
  EXPECT_TRUE(run({0, 0, 8}, {}, {}).empty());
  EXPECT_THROW(run({0, 0, 8}, {1, 1}, {0}, 0), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
