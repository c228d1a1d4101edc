// SPDX-License-Identifier: MIT
// The CUDA deformable columns against the host version, and what the fixed-point scatter promises.
#include "kernels/deform_im2col.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class DeformIm2ColCuda : public CudaTest {
 protected:
  // Runs the three kernels on both sides. `scale` multiplies the upstream gradient.
  void compare(const Shape& x_shape, int kernel, float scale = 1) {
    SCOPED_TRACE(x_shape.to_string() + " kernel " + std::to_string(kernel) + " scale " + std::to_string(scale));
    const int64_t taps = int64_t{kernel} * kernel;
    const Shape offsets_shape{x_shape[0], x_shape[1], x_shape[2], 2 * taps};
    const Shape columns_shape{x_shape[0], x_shape[1], x_shape[2], taps, x_shape[3]};
    const std::vector<float> x = random_floats(x_shape.size(), rng);
    const std::vector<float> grad_columns = random_floats(columns_shape.size(), rng, -scale, scale);
    std::vector<float> offsets = random_floats(offsets_shape.size(), rng, -2.5f, 2.5f);
    // Whole cells, NaN and far away between the ordinary ones.
    for (size_t i = 0; i < offsets.size(); i += 7) offsets[i] = std::floor(offsets[i]);
    for (size_t i = 3; i < offsets.size(); i += 31) offsets[i] = std::numeric_limits<float>::quiet_NaN();
    for (size_t i = 5; i < offsets.size(); i += 37) offsets[i] = i % 2 == 0 ? 1e30f : -1e30f;
    const DeviceArray<float> dev_x(x_shape, x), dev_offsets(offsets_shape, offsets),
        dev_grad(columns_shape, grad_columns);
    Cpu cpu(1);

    std::vector<float> columns(grad_columns.size());
    deform_im2col(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape}, kernel, {columns.data(), columns_shape});
    DeviceArray<float> dev_columns(columns_shape);
    deform_im2col(cuda, dev_x.view(), dev_offsets.view(), kernel, dev_columns.view());
    expect_close(dev_columns.to_host(), columns, 5e-7, 0);  // four products of values below 1

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      // What overwrite must not read is NaN on the device.
      const bool add = mode == Accumulate::add;
      std::vector<float> grad_offsets = random_floats(offsets_shape.size(), rng, -scale, scale);
      DeviceArray<float> dev_grad_offsets =
          add ? DeviceArray<float>(offsets_shape, grad_offsets) : DeviceArray<float>(offsets_shape);
      deform_im2col_backward_offsets(cpu, {x.data(), x_shape}, {offsets.data(), offsets_shape},
                                     {grad_columns.data(), columns_shape}, kernel, {grad_offsets.data(), offsets_shape},
                                     mode);
      deform_im2col_backward_offsets(cuda, dev_x.view(), dev_offsets.view(), dev_grad.view(), kernel,
                                     dev_grad_offsets.view(), mode);
      // Sums of C products below 4 * scale, in another order than the host's.
      expect_close(dev_grad_offsets.to_host(), grad_offsets, 4e-7 * scale * static_cast<double>(x_shape[3] + 4), 0);

      std::vector<float> grad_x = random_floats(x_shape.size(), rng, -scale, scale);
      DeviceArray<float> dev_grad_x = add ? DeviceArray<float>(x_shape, grad_x) : DeviceArray<float>(x_shape);
      DeviceArray<int64_t> workspace({deform_im2col_workspace(x_shape)});
      deform_im2col_backward_data(cpu, {offsets.data(), offsets_shape}, {grad_columns.data(), columns_shape}, kernel,
                                  {grad_x.data(), x_shape}, mode, {});
      deform_im2col_backward_data(cuda, dev_offsets.view(), dev_grad.view(), kernel, dev_grad_x.view(), mode,
                                  workspace.view());
      // The host's own rounding: about 4 * taps contributions reach an element, several times that where offsets crowd.
      expect_close(dev_grad_x.to_host(), grad_x, 4e-7 * scale * static_cast<double>(taps + 4), 0);
    }
  }
  std::mt19937 rng{21};
};

TEST_F(DeformIm2ColCuda, MatchesHost) {
  compare({1, 1, 1, 1}, 1);
  compare({1, 1, 1, 3}, 3);
  compare({2, 5, 4, 8}, 3);    // float4, fewer than a warp
  compare({1, 3, 4, 132}, 3);  // float4, more than a warp
  compare({1, 4, 3, 37}, 3);   // single floats, more than a warp
  compare({2, 2, 3, 5}, 5);    // more taps than warps
}

TEST_F(DeformIm2ColCuda, AnyBatch) {
  for (const int64_t batch : {3, 33, 64}) compare({batch, 2, 2, 4}, 1);
}

// More cells than blocks: every block goes round again.
TEST_F(DeformIm2ColCuda, MoreCellsThanBlocks) { compare({1, 99, 101, 1}, 1); }

// The fixed point follows the largest gradient, however small or large.
TEST_F(DeformIm2ColCuda, GradientsOfAnySize) {
  for (const float scale : {1e-36f, 1e-20f, 1e20f, 1e36f}) compare({1, 3, 3, 4}, 3, scale);
}

TEST_F(DeformIm2ColCuda, OneLargeGradientKeepsTheSmallOnes) {
  // Both land on the same map; the small one is 2^-30 of the large one and stays exact.
  const Shape x_shape{1, 1, 2, 1}, offsets_shape{1, 1, 2, 2}, columns_shape{1, 1, 2, 1, 1};
  const DeviceArray<float> offsets(offsets_shape, {0, 0, 0, 0}), grad(columns_shape, {1024.0f, std::ldexp(1.0f, -20)});
  DeviceArray<float> grad_x(x_shape);
  DeviceArray<int64_t> workspace({deform_im2col_workspace(x_shape)});
  deform_im2col_backward_data(cuda, offsets.view(), grad.view(), 1, grad_x.view(), Accumulate::overwrite,
                              workspace.view());
  EXPECT_EQ(grad_x.to_host(), (std::vector<float>{1024.0f, std::ldexp(1.0f, -20)}));
}

TEST_F(DeformIm2ColCuda, ScatterOntoOneCellDoesNotOverflow) {
  // Every tap of every cell reads cell (0, 0): the largest sum there can be.
  const Shape x_shape{1, 6, 5, 2}, offsets_shape{1, 6, 5, 18}, columns_shape{1, 6, 5, 9, 2};
  std::vector<float> values(static_cast<size_t>(offsets_shape.size()));
  for (size_t cell = 0; cell < 30; ++cell)
    for (size_t t = 0; t < 9; ++t) {
      values[(cell * 9 + t) * 2] = 1.0f - static_cast<float>(cell / 5) - static_cast<float>(t / 3);
      values[(cell * 9 + t) * 2 + 1] = 1.0f - static_cast<float>(cell % 5) - static_cast<float>(t % 3);
    }
  const DeviceArray<float> offsets(offsets_shape, values), grad(columns_shape, std::vector<float>(540, -3.0f));
  DeviceArray<float> grad_x(x_shape);
  DeviceArray<int64_t> workspace({deform_im2col_workspace(x_shape)});
  deform_im2col_backward_data(cuda, offsets.view(), grad.view(), 3, grad_x.view(), Accumulate::overwrite,
                              workspace.view());
  std::vector<float> want(60, 0.0f);
  want[0] = want[1] = -810.0f;
  EXPECT_EQ(grad_x.to_host(), want);
}

TEST_F(DeformIm2ColCuda, ZeroGradientGivesZero) {
  const DeviceArray<float> offsets({1, 2, 2, 18}, std::vector<float>(72, 0.5f)),
      grad({1, 2, 2, 9, 3}, std::vector<float>(108, 0.0f));
  DeviceArray<float> grad_x({1, 2, 2, 3});
  DeviceArray<int64_t> workspace({deform_im2col_workspace({1, 2, 2, 3})});
  deform_im2col_backward_data(cuda, offsets.view(), grad.view(), 3, grad_x.view(), Accumulate::overwrite,
                              workspace.view());
  EXPECT_EQ(grad_x.to_host(), std::vector<float>(12, 0.0f));
}

TEST_F(DeformIm2ColCuda, NonFiniteGradientsShow) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> upstream(108, 1.0f);
    upstream[57] = bad;
    const DeviceArray<float> offsets({1, 2, 2, 18}, std::vector<float>(72, 0.5f)), grad({1, 2, 2, 9, 3}, upstream);
    DeviceArray<float> grad_x({1, 2, 2, 3});
    DeviceArray<int64_t> workspace({deform_im2col_workspace({1, 2, 2, 3})});
    deform_im2col_backward_data(cuda, offsets.view(), grad.view(), 3, grad_x.view(), Accumulate::overwrite,
                                workspace.view());
    for (const float v : grad_x.to_host()) EXPECT_TRUE(std::isnan(v));
  }
}

TEST_F(DeformIm2ColCuda, EmptyInputReturnsAfterTheShapeChecks) {
  const Shape x_shape{0, 4, 4, 8}, offsets_shape{0, 4, 4, 18}, columns_shape{0, 4, 4, 9, 8};
  const DeviceArray<float> x(x_shape), offsets(offsets_shape);
  DeviceArray<float> columns(columns_shape), grad_x(x_shape), grad_offsets(offsets_shape), wrong({0, 4, 4, 9, 7});
  DeviceArray<int64_t> workspace({deform_im2col_workspace(x_shape)});
  deform_im2col(cuda, x.view(), offsets.view(), 3, columns.view());
  deform_im2col_backward_offsets(cuda, x.view(), offsets.view(), columns.view(), 3, grad_offsets.view(),
                                 Accumulate::add);
  deform_im2col_backward_data(cuda, offsets.view(), columns.view(), 3, grad_x.view(), Accumulate::add,
                              workspace.view());
  EXPECT_THROW(deform_im2col(cuda, x.view(), offsets.view(), 3, wrong.view()), std::invalid_argument);
  EXPECT_THROW(deform_im2col_backward_data(cuda, offsets.view(), columns.view(), 3, grad_x.view(), Accumulate::add, {}),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
