// SPDX-License-Identifier: MIT
#include "kernels/upsample_add.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

// Which source cell each of `fine` cells reads, seen through values that are their own index.
std::vector<float> sources(int64_t coarse, int64_t fine, bool vertical) {
  Cpu cpu(1);
  const Shape small = vertical ? Shape{1, coarse, 1, 1} : Shape{1, 1, coarse, 1};
  const Shape large = vertical ? Shape{1, fine, 1, 1} : Shape{1, 1, fine, 1};
  Floats index(small), y(large);
  for (int64_t i = 0; i < coarse; ++i) index[i] = static_cast<float>(i);
  upsample_add(cpu, index.view(), Floats(large, 0.0f).view(), y.view());
  return y.values;
}

TEST(UpsampleAdd, NearestIndexIsTheFloor) {
  for (const bool vertical : {false, true}) {
    EXPECT_EQ(sources(3, 5, vertical), (std::vector<float>{0, 0, 1, 1, 2}));
    EXPECT_EQ(sources(2, 4, vertical), (std::vector<float>{0, 0, 1, 1}));
    EXPECT_EQ(sources(2, 3, vertical), (std::vector<float>{0, 0, 1}));
    EXPECT_EQ(sources(7, 13, vertical), (std::vector<float>{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6}));
    EXPECT_EQ(sources(4, 4, vertical), (std::vector<float>{0, 1, 2, 3}));
  }
}

TEST(UpsampleAdd, WorkedExample) {
  Cpu cpu(1);
  const Floats coarse({1, 1, 2, 1}, {10, 20});
  Floats fine({1, 2, 3, 1}, {1, 2, 3, 4, 5, 6});
  upsample_add(cpu, coarse.view(), fine.view(), fine.view());  // in place, as the pyramid does
  EXPECT_EQ(fine.values, (std::vector<float>{11, 12, 23, 14, 15, 26}));

  const Floats grad_y({1, 2, 3, 1}, {1, 2, 3, 4, 5, 6});
  Floats grad({1, 1, 2, 1});
  upsample_add_backward(cpu, grad_y.view(), grad.view(), Accumulate::overwrite);
  EXPECT_EQ(grad.values, (std::vector<float>{1 + 2 + 4 + 5, 3 + 6}));
  upsample_add_backward(cpu, grad_y.view(), grad.view(), Accumulate::add);
  EXPECT_EQ(grad.values, (std::vector<float>{24, 18}));
}

TEST(UpsampleAdd, BackwardIsTheTransposeOfForward) {
  Cpu cpu(2);
  uint32_t seed = 1;
  for (const auto& [coarse, fine] : {std::pair<Shape, Shape>{{2, 3, 4, 5}, {2, 5, 8, 5}},
                                     {{1, 7, 1, 33}, {1, 13, 9, 33}},
                                     {{1, 4, 6, 8}, {1, 4, 6, 8}}}) {
    const Floats x = random_array(coarse, ++seed), g = random_array(fine, ++seed), zero(fine, 0.0f);
    Floats y(fine), grad(coarse);
    upsample_add(cpu, x.view(), zero.view(), y.view());
    upsample_add_backward(cpu, g.view(), grad.view(), Accumulate::overwrite);
    double forward = 0, backward = 0;  // <g, A x> = <A^T g, x>
    for (int64_t i = 0; i < y.size(); ++i) forward += static_cast<double>(y[i]) * static_cast<double>(g[i]);
    for (int64_t i = 0; i < x.size(); ++i) backward += static_cast<double>(x[i]) * static_cast<double>(grad[i]);
    EXPECT_TRUE(near(forward, backward, 1e-4)) << forward << " " << backward;
    // A gradient of one cell at a time: every fine cell has exactly one source.
    const Floats ones(fine, 1.0f);
    upsample_add_backward(cpu, ones.view(), grad.view(), Accumulate::overwrite);
    double cells = 0;
    for (const float v : grad.values) cells += static_cast<double>(v);
    EXPECT_EQ(cells, static_cast<double>(y.size()));
  }
}

TEST(UpsampleAdd, Bfloat16IsFloatRoundedOnce) {
  Cpu cpu(2);
  const Shape coarse{2, 3, 4, 261}, fine{2, 7, 9, 261};  // two tiles of channels, up to nine cells per source
  const Array<bfloat16> x(coarse, stored<bfloat16>(random_array(coarse, 1).values)),
      z(fine, stored<bfloat16>(random_array(fine, 2).values));
  const Floats wide_x(coarse, widened(x.values)), wide_z(fine, widened(z.values));
  Array<bfloat16> y(fine, to_bfloat16(kNaN));
  Floats wide_y(fine);
  upsample_add(cpu, x.view(), z.view(), y.view());
  upsample_add(cpu, wide_x.view(), wide_z.view(), wide_y.view());
  EXPECT_EQ(widened(y.values), rounded(wide_y.values));

  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    Array<bfloat16> grad = x;
    Floats wide = wide_x;
    upsample_add_backward(cpu, z.view(), grad.view(), mode);
    upsample_add_backward(cpu, wide_z.view(), wide.view(), mode);
    EXPECT_EQ(widened(grad.values), rounded(wide.values));
  }
}

TEST(UpsampleAdd, EmptyAndWrongShapes) {
  Cpu cpu(1);
  Floats coarse({0, 1, 1, 3}, {}), fine({0, 2, 2, 3}, {}), larger({0, 3, 1, 3}, {}), zero({0, 0, 1, 3}, {});
  upsample_add(cpu, coarse.view(), fine.view(), fine.view());
  upsample_add_backward(cpu, fine.view(), coarse.view(), Accumulate::add);
  EXPECT_THROW(upsample_add(cpu, larger.view(), fine.view(), fine.view()), std::invalid_argument);
  EXPECT_THROW(upsample_add(cpu, zero.view(), fine.view(), fine.view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
