// SPDX-License-Identifier: MIT
#include "kernels/image_normalize.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;
using Bytes = Array<uint8_t>;
using Ints = Array<int32_t>;

const ImageNormalize kIdentity{.mean = {0, 0, 0}, .std = {1, 1, 1}};

Floats normalize(const Bytes& images, std::vector<int32_t> orientations, std::vector<int32_t> sizes,
                 const ImageNormalize& options, int threads = 1) {
  Cpu cpu(threads);
  Floats out(images.shape);
  const Ints turns({images.shape[0]}, std::move(orientations)), valid({images.shape[0], 2}, std::move(sizes));
  image_normalize(cpu, images.view(), turns.view(), valid.view(), options, out.view());
  return out;
}

TEST(ImageNormalize, ScalingOfThePublishedWeights) {
  const Bytes pixel({1, 1, 1, 3}, {200, 100, 50});
  // torchvision: RGB, in units of the standard deviation
  expect_near(normalize(pixel, {0}, {1, 1}, {}).values, std::vector<double>{1.30704684, -0.285014006, -0.932984749},
              1e-6);
  // detectron2's caffe models: BGR, mean only
  const ImageNormalize caffe{.mean = {103.53f, 116.28f, 123.675f}, .std = {1, 1, 1}, .bgr = true};
  expect_near(normalize(pixel, {0}, {1, 1}, caffe).values, std::vector<double>{-53.53, -16.28, 76.325}, 1e-5);
}

// 2 rows, 3 columns, 4 x 4 stored; the pixel at row u, column v is 10 u + v in every channel.
TEST(ImageNormalize, EightOrientations) {
  Bytes image({1, 4, 4, 3}, uint8_t{99});
  for (int64_t u = 0; u < 2; ++u)
    for (int64_t v = 0; v < 3; ++v)
      for (int64_t c = 0; c < 3; ++c) image[(u * 4 + v) * 3 + c] = static_cast<uint8_t>(10 * (u + 1) + v + 1);
  const std::vector<std::vector<std::vector<float>>> want{
      {{11, 12, 13}, {21, 22, 23}},    // as stored
      {{13, 12, 11}, {23, 22, 21}},    // mirrored
      {{21, 22, 23}, {11, 12, 13}},    // upside down
      {{23, 22, 21}, {13, 12, 11}},    // half a turn
      {{11, 21}, {12, 22}, {13, 23}},  // transposed
      {{21, 11}, {22, 12}, {23, 13}},  // transposed, then mirrored: a quarter turn clockwise
      {{13, 23}, {12, 22}, {11, 21}},  // transposed, then upside down: a quarter turn counter-clockwise
      {{23, 13}, {22, 12}, {21, 11}},  // the other diagonal
  };
  for (int32_t turn = 0; turn < 8; ++turn) {
    SCOPED_TRACE(turn);
    const Floats out = normalize(image, {turn}, {2, 3}, kIdentity);
    const auto& rows = want[static_cast<size_t>(turn)];
    for (size_t y = 0; y < 4; ++y)
      for (size_t x = 0; x < 4; ++x)
        for (size_t c = 0; c < 3; ++c)
          EXPECT_EQ(out.values[(y * 4 + x) * 3 + c], y < rows.size() && x < rows[y].size() ? rows[y][x] : 0.0f);
  }
}

TEST(ImageNormalize, PaddingIsZeroAfterNormalisation) {
  const Bytes images({2, 2, 2, 3}, uint8_t{10});
  const Floats out = normalize(images, {0, kFlipHorizontal}, {1, 2, 0, 0}, {.mean = {4, 4, 4}, .std = {2, 2, 2}});
  std::vector<float> want(24, 0.0f);
  for (size_t i = 0; i < 6; ++i) want[i] = 3;
  EXPECT_EQ(out.values, want);
}

TEST(ImageNormalize, WhatDoesNotFitIsCutAndWrongSizesAreClamped) {
  Bytes wide({1, 1, 3, 3}, uint8_t{0});
  for (int64_t x = 0; x < 3; ++x)
    for (int64_t c = 0; c < 3; ++c) wide[3 * x + c] = static_cast<uint8_t>(x + 1);
  // Transposed it is 3 high: only the first of its rows remains, the last of them if flipped.
  EXPECT_EQ(normalize(wide, {kTranspose}, {1, 3}, kIdentity).values, (std::vector<float>{1, 1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(normalize(wide, {kTranspose | kFlipVertical}, {1, 3}, kIdentity).values,
            (std::vector<float>{3, 3, 3, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(normalize(wide, {0}, {77, 99}, kIdentity).values, (std::vector<float>{1, 1, 1, 2, 2, 2, 3, 3, 3}));
  EXPECT_EQ(normalize(wide, {0}, {-1, -2}, kIdentity).values, std::vector<float>(9, 0.0f));
}

TEST(ImageNormalize, Bfloat16IsFloatRoundedOnce) {
  Cpu cpu(1);
  Bytes images({2, 9, 31, 3}, uint8_t{0});
  for (int64_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(i * 37 % 256);
  const Ints turns({2}, {5, 1}), sizes({2, 2}, {9, 31, 7, 20});
  Array<bfloat16> out(images.shape, to_bfloat16(kNaN));
  image_normalize(cpu, images.view(), turns.view(), sizes.view(), {}, out.view());
  EXPECT_EQ(widened(out.values), rounded(normalize(images, turns.values, sizes.values, {}).values));
}

TEST(ImageNormalize, ThreadsEmptyAndWrongShapes) {
  Bytes images({3, 33, 21, 3}, uint8_t{0});
  for (int64_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(i * 37 % 256);
  const std::vector<int32_t> turns{5, 2, 7}, sizes{33, 21, 20, 19, 21, 21};
  EXPECT_EQ(normalize(images, turns, sizes, {}, 1).values, normalize(images, turns, sizes, {}, 3).values);

  EXPECT_TRUE(normalize(Bytes({0, 4, 4, 3}, std::vector<uint8_t>{}), {}, {}, {}).values.empty());
  EXPECT_THROW(normalize(Bytes({1, 2, 2, 4}, uint8_t{0}), {0}, {2, 2}, {}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
