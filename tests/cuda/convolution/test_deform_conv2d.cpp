// SPDX-License-Identifier: MIT
// The deformable convolution on tensor cores against the host version: the same bits where every sum is exact, close
// elsewhere.
#include "kernels/convolution/deform_conv2d.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Problem {
  Problem(const Shape& x_shape_, int64_t outputs, int kernel_)
      : x_shape(x_shape_),
        offsets_shape{x_shape[0], x_shape[1], x_shape[2], 2 * kernel_ * kernel_},
        weight_shape{outputs, kernel_, kernel_, x_shape[3]},
        y_shape{x_shape[0], x_shape[1], x_shape[2], outputs},
        kernel(kernel_),
        rng(17),
        x(stored<bfloat16>(random_floats(x_shape.size(), rng))),
        weight(stored<bfloat16>(random_floats(weight_shape.size(), rng, -0.125f, 0.125f))),
        offsets(random_floats(offsets_shape.size(), rng, -2.5f, 2.5f)) {}

  // Between the ordinary offsets whole cells, NaN and far away.
  void make_offsets_wild() {
    for (size_t i = 0; i < offsets.size(); i += 7) offsets[i] = std::floor(offsets[i]);
    for (size_t i = 3; i < offsets.size(); i += 31) offsets[i] = kNaN;
    for (size_t i = 5; i < offsets.size(); i += 37) offsets[i] = i % 2 == 0 ? 1e30f : -kInfinity;
  }
  // Weights of corners are then multiples of 1/4, samples multiples of 1/4 up to 8, and all sums below 2^22: nothing is
  // rounded but y.
  void make_exact() {
    for (bfloat16& v : x) v = to_bfloat16(std::round(8 * to_float(v)));
    for (bfloat16& v : weight) v = to_bfloat16(std::round(24 * to_float(v)));
    for (float& v : offsets) v = std::round(2 * v) / 2;
  }

  std::vector<float> host(Activation activation) const {
    Cpu cpu(1);
    std::vector<bfloat16> y(static_cast<size_t>(y_shape.size()));
    deform_conv2d(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape}, {weight.data(), weight_shape}, kernel,
                  activation, {y.data(), y_shape});
    return widened(y);
  }
  // y is NaN before.
  std::vector<float> device(Cuda& cuda, Activation activation) const {
    const DeviceArray<bfloat16> dev_x(x_shape, x), dev_weight(weight_shape, weight);
    const DeviceArray<float> dev_offsets(offsets_shape, offsets);
    DeviceArray<bfloat16> dev_y(y_shape);
    deform_conv2d(cuda, dev_x.view(), dev_offsets.view(), dev_weight.view(), kernel, activation, dev_y.view());
    return widened(dev_y.to_host());
  }

  Shape x_shape, offsets_shape, weight_shape, y_shape;
  int kernel;
  std::mt19937 rng;
  std::vector<bfloat16> x, weight;
  std::vector<float> offsets;
};

class DeformConv2dCuda : public CudaTest {
 protected:
  void compare(const Shape& x_shape, int64_t outputs, int kernel) {
    SCOPED_TRACE(x_shape.to_string() + " to " + std::to_string(outputs) + " kernel " + std::to_string(kernel));
    Problem p(x_shape, outputs, kernel);
    p.make_offsets_wild();
    // A fused multiply-add may move a sample to its neighbour, 1/256 away, times a weight of 1/8 at most: room for
    // three in a sum. And y itself to its neighbour.
    expect_near_or_nan(p.device(cuda, Activation::none), p.host(Activation::none), 1.5e-3, 1.0 / 128);
    p.make_exact();
    for (const Activation activation : {Activation::none, Activation::relu})
      EXPECT_EQ(p.device(cuda, activation), p.host(activation));
  }
};

TEST_F(DeformConv2dCuda, OnePixelAndOneOutput) {
  compare({1, 1, 1, 8}, 1, 1);
  compare({1, 1, 1, 16}, 2, 3);
}

TEST_F(DeformConv2dCuda, Channels) {
  compare({1, 4, 5, 16}, 16, 3);  // half a step
  compare({1, 4, 5, 32}, 16, 3);  // one
  compare({2, 3, 5, 48}, 16, 3);  // one and a half
  compare({1, 3, 3, 40}, 8, 1);   // and a quarter
  compare({1, 2, 3, 256}, 8, 3);  // as in the network
}

// Tiles have 128 pixels and 256 outputs, warps 64 of either.
TEST_F(DeformConv2dCuda, Tails) {
  compare({1, 8, 8, 16}, 64, 1);    // one warp's piece
  compare({1, 13, 5, 16}, 65, 1);   // a pixel and an output more; odd rows of y
  compare({2, 8, 8, 16}, 256, 1);   // one tile
  compare({3, 43, 1, 16}, 258, 1);  // a pixel and two outputs more
  compare({1, 1, 300, 8}, 18, 1);
  compare({2, 9, 9, 16}, 80, 3);
}

TEST_F(DeformConv2dCuda, KernelOfFive) { compare({1, 4, 3, 16}, 10, 5); }

TEST_F(DeformConv2dCuda, WholeTileWithAllTaps) { compare({2, 8, 9, 32}, 256, 3); }

TEST_F(DeformConv2dCuda, FarOffsetsGiveZeros) {
  Problem p({1, 5, 7, 16}, 9, 3);
  p.offsets.assign(p.offsets.size(), 1000.0f);
  EXPECT_EQ(p.device(cuda, Activation::none), std::vector<float>(5 * 7 * 9, 0.0f));
}

// In the pixels that see it and no others, ReLU or not.
TEST_F(DeformConv2dCuda, NaNShowsWhereItLands) {
  Problem p({1, 5, 7, 16}, 6, 3);
  p.make_exact();
  p.offsets.assign(p.offsets.size(), 0.0f);
  p.x[(2 * 7 + 3) * 16 + 5] = to_bfloat16(kNaN);
  for (const Activation activation : {Activation::none, Activation::relu}) {
    const std::vector<float> got = p.device(cuda, activation), want = p.host(activation);
    expect_near_or_nan(got, want, 0, 0);
    EXPECT_TRUE(std::isnan(got[(1 * 7 + 2) * 6]));
    EXPECT_FALSE(std::isnan(got[(4 * 7 + 3) * 6]));
  }
}

TEST_F(DeformConv2dCuda, UnalignedOutput) {
  Problem p({1, 3, 4, 16}, 6, 3);
  p.make_exact();
  const DeviceArray<bfloat16> dev_x(p.x_shape, p.x), dev_weight(p.weight_shape, p.weight);
  const DeviceArray<float> dev_offsets(p.offsets_shape, p.offsets);
  DeviceArray<bfloat16> dev_y({1 + 72});
  deform_conv2d(cuda, dev_x.view(), dev_offsets.view(), dev_weight.view(), 3, Activation::none,
                {dev_y.view().data() + 1, p.y_shape});
  const std::vector<float> got = widened(dev_y.to_host());
  EXPECT_TRUE(std::isnan(got[0]));
  EXPECT_EQ(std::vector<float>(got.begin() + 1, got.end()), p.host(Activation::none));
}

TEST_F(DeformConv2dCuda, EmptyInputAndWrongShapes) {
  for (const Shape& x_shape : {Shape{0, 4, 4, 16}, Shape{2, 0, 4, 16}, Shape{2, 4, 0, 16}})
    EXPECT_TRUE(Problem(x_shape, 5, 3).device(cuda, Activation::relu).empty());
  EXPECT_TRUE(Problem({1, 2, 2, 16}, 0, 3).device(cuda, Activation::relu).empty());
  EXPECT_EQ(Problem({1, 2, 2, 0}, 3, 3).device(cuda, Activation::none), std::vector<float>(12, 0.0f));
  EXPECT_THROW((void)Problem({1, 2, 2, 12}, 5, 3).device(cuda, Activation::none), std::invalid_argument);
  // Addresses that no 16-byte access may use.
  const DeviceArray<bfloat16> x({1 + 16}), weight({4, 1, 1, 16});
  const DeviceArray<float> offsets({1, 1, 1, 2});
  DeviceArray<bfloat16> y({1, 1, 1, 4});
  EXPECT_THROW(deform_conv2d(cuda, {x.view().data() + 1, {1, 1, 1, 16}}, offsets.view(), weight.view(), 1,
                             Activation::none, y.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
