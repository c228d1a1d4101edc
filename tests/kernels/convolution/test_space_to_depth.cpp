// SPDX-License-Identifier: MIT
#include "kernels/convolution/space_to_depth.h"

#include "kernels/convolution/conv2d.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

TEST(SpaceToDepth, WorkedValues) {
  Cpu cpu(1);
  // One channel, three columns: the last block reaches over the edge.
  const Floats in({1, 2, 3, 1}, {1, 2, 3, 4, 5, 6});
  Floats out({1, 1, 2, 5});
  space_to_depth<float>(cpu, in.view(), 0, out.view());
  EXPECT_EQ(out.values, (std::vector<float>{1, 2, 4, 5, 0, 3, 0, 6, 0, 0}));
  Floats shifted({1, 2, 2, 4});
  space_to_depth<float>(cpu, in.view(), -1, shifted.view());
  EXPECT_EQ(shifted.values, (std::vector<float>{0, 0, 0, 1, 0, 0, 2, 3, 0, 4, 0, 0, 5, 6, 0, 0}));
}

TEST(SpaceToDepth, TapsOfAStride2Convolution) {
  const auto taps = [](int64_t R, int padding) {
    const BlockTaps t = block_taps(R, padding);
    return std::pair<int, int>{t.first, t.count};
  };
  EXPECT_EQ(taps(7, 3), (std::pair<int, int>{-2, 4}));  // rows 2 p - 3 to 2 p + 3
  EXPECT_EQ(taps(3, 1), (std::pair<int, int>{-1, 2}));
  EXPECT_EQ(taps(3, 0), (std::pair<int, int>{0, 2}));
  EXPECT_EQ(taps(1, 0), (std::pair<int, int>{0, 1}));
  EXPECT_EQ(taps(1, 1), (std::pair<int, int>{-1, 1}));
  EXPECT_EQ(taps(5, 2), (std::pair<int, int>{-1, 3}));
  EXPECT_EQ(taps(2, 3), (std::pair<int, int>{-2, 2}));  // rows 2 p - 3 and 2 p - 2
}

// What it is for: the convolution of stride 2 on the image equals that of stride 1 on the blocks.
TEST(SpaceToDepth, MakesStride2Stride1) {
  Cpu cpu(2);
  for (const auto& [R, padding] : {std::pair<int, int>{7, 3}, {3, 1}, {3, 0}, {1, 0}, {5, 2}, {2, 3}})
    for (const auto& [H, W] : {std::pair<int64_t, int64_t>{16, 16}, {9, 12}, {7, 7}, {21, 10}}) {
      SCOPED_TRACE(std::to_string(R) + " taps, padding " + std::to_string(padding) + ", " + std::to_string(H) + " x " +
                   std::to_string(W));
      const int64_t N = 2, C = 3, K = 5, channels = 16;
      const ConvShape stride2{.stride = 2, .padding = padding};
      const int64_t P = conv_size(H, R, stride2), Q = conv_size(W, R, stride2);
      const Floats x = random_array({N, H, W, C}, 1), weight = random_array({K, R, R, C}, 2),
                   bias = random_array({K}, 3);
      Floats want({N, P, Q, K}), got({N, P, Q, K});
      conv2d(cpu, x.view(), weight.view(), bias.view(), stride2, want.view());
      const BlockTaps taps = block_taps(R, padding);
      Floats blocks({N, P + taps.count - 1, Q + taps.count - 1, channels}, kNaN),
          block_weight({K, taps.count, taps.count, channels}, kNaN);
      space_to_depth<float>(cpu, x.view(), 2 * taps.first, blocks.view());
      space_to_depth<float>(cpu, weight.view(), 2 * taps.first + padding, block_weight.view());
      conv2d(cpu, std::as_const(blocks).view(), std::as_const(block_weight).view(), bias.view(), {}, got.view());
      expect_near(got.values, want.values, 3e-5);  // 147 products below 1, in another order
    }
}

TEST(SpaceToDepth, Bfloat16AndThreads) {
  const Shape in_shape{2, 5, 6, 3}, out_shape{2, 4, 3, 14};
  const std::vector<bfloat16> in = stored<bfloat16>(random_array(in_shape, 4).values);
  const Floats wide(in_shape, widened(in));
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    Floats want(out_shape, kNaN);
    std::vector<bfloat16> got(want.values.size());
    space_to_depth<float>(cpu, wide.view(), -1, want.view());
    space_to_depth<bfloat16>(cpu, {in.data(), in_shape}, -1, {got.data(), out_shape});
    EXPECT_EQ(widened(got), want.values);
  }
}

TEST(SpaceToDepth, EmptyAndWrongShapes) {
  Cpu cpu(1);
  const Floats none({0, 4, 4, 3}, std::vector<float>{}), some({1, 4, 4, 3});
  Floats out({0, 2, 2, 12}, std::vector<float>{}), narrow({1, 2, 2, 11}), two({2, 2, 2, 12}), flat({4, 12});
  space_to_depth<float>(cpu, none.view(), 0, out.view());
  for (Floats* wrong : {&narrow, &two, &flat})
    EXPECT_THROW(space_to_depth<float>(cpu, some.view(), 0, wrong->view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
