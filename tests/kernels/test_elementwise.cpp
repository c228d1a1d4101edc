// SPDX-License-Identifier: MIT
#include "kernels/elementwise.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

TEST(Elementwise, WorkedValues) {
  Cpu cpu(1);
  Floats y({3});
  fill(cpu, y.view(), 2.5f);
  EXPECT_EQ(y.values, (std::vector<float>{2.5f, 2.5f, 2.5f}));

  const Floats a({3}, {1, -2, 3}), b({3}, {-4, 5, 6});
  copy(cpu, a.view(), y.view(), Accumulate::overwrite);
  EXPECT_EQ(y.values, a.values);
  copy(cpu, b.view(), y.view(), Accumulate::add);
  EXPECT_EQ(y.values, (std::vector<float>{-3, 3, 9}));
  scale(cpu, a.view(), -2, y.view(), Accumulate::overwrite);
  EXPECT_EQ(y.values, (std::vector<float>{-2, 4, -6}));
  scale(cpu, b.view(), 0.5f, y.view(), Accumulate::add);
  EXPECT_EQ(y.values, (std::vector<float>{-4, 6.5f, -3}));
  relu(cpu, a.view(), y.view());
  EXPECT_EQ(y.values, (std::vector<float>{1, 0, 3}));
  add_relu(cpu, a.view(), b.view(), y.view());
  EXPECT_EQ(y.values, (std::vector<float>{0, 3, 9}));
  add(cpu, a.view(), b.view(), y.view());
  EXPECT_EQ(y.values, (std::vector<float>{-3, 3, 9}));
}

TEST(Elementwise, SubtractRow) {
  Cpu cpu(2);
  const Floats row({3}, {1, 2, 3});
  Floats x({2, 3}, {10, 20, 30, 40, 50, 60}), y({2, 3});
  subtract_row(cpu, x.view(), row.view(), y.view());
  EXPECT_EQ(y.values, (std::vector<float>{9, 18, 27, 39, 48, 57}));
  subtract_row(cpu, x.view(), row.view(), x.view());
  EXPECT_EQ(x.values, y.values);

  const Floats many = random_array({5000, 18}, 1), taps = random_array({18}, 2);  // several tasks
  Floats difference(many.shape);
  subtract_row(cpu, many.view(), taps.view(), difference.view());
  for (int64_t i = 0; i < many.size(); ++i) ASSERT_EQ(difference[i], many[i] - taps[i % 18]) << i;

  Floats no_rows({0, 3}, std::vector<float>{}), no_columns({3, 0}, std::vector<float>{});
  subtract_row(cpu, no_rows.view(), row.view(), no_rows.view());
  subtract_row(cpu, no_columns.view(), Floats({0}, std::vector<float>{}).view(), no_columns.view());
  EXPECT_THROW(subtract_row(cpu, many.view(), row.view(), difference.view()), std::invalid_argument);
  EXPECT_THROW(subtract_row(cpu, x.view(), row.view(), difference.view()), std::invalid_argument);
}

TEST(Elementwise, ReluKeepsNaNAndHasNoGradientAtZero) {
  Cpu cpu(1);
  const Floats x({4}, {kNaN, -kInfinity, kInfinity, 0}), zero({4}, 0.0f);
  Floats y({4}, 1.0f);
  relu(cpu, x.view(), y.view());
  expect_same(y.values, {kNaN, 0, kInfinity, 0});
  add_relu(cpu, x.view(), zero.view(), y.view());
  expect_same(y.values, {kNaN, 0, kInfinity, 0});

  const Floats out({3}, {0, 2, 0.5f}), grad_y({3}, {10, 20, kNaN});
  Floats grad_x({3});
  relu_backward(cpu, out.view(), grad_y.view(), grad_x.view(), Accumulate::overwrite);
  expect_same(grad_x.values, {0, 20, kNaN});
  grad_x.values = {1, 2, 3};
  relu_backward(cpu, out.view(), grad_y.view(), grad_x.view(), Accumulate::add);
  expect_same(grad_x.values, {1, 22, kNaN});
}

TEST(Elementwise, OutputMayBeAnInput) {
  Cpu cpu(2);
  const Floats a = random_array({100003}, 1), b = random_array({100003}, 2);
  Floats want(a.shape), x = a;
  add_relu(cpu, a.view(), b.view(), want.view());
  add_relu(cpu, x.view(), b.view(), x.view());
  EXPECT_EQ(x.values, want.values);
}

TEST(Elementwise, EmptyAndMismatched) {
  Cpu cpu(1);
  Floats empty({0, 3}, {}), two({2}, {1, 2}), three({3}, {1, 2, 3});
  fill(cpu, empty.view(), 1);
  relu(cpu, empty.view(), empty.view());
  EXPECT_THROW(copy(cpu, two.view(), three.view(), Accumulate::overwrite), std::invalid_argument);
  EXPECT_THROW(add_relu(cpu, two.view(), three.view(), three.view()), std::invalid_argument);
  EXPECT_THROW(relu_backward(cpu, three.view(), two.view(), three.view(), Accumulate::add), std::invalid_argument);
}

TEST(Elementwise, CastRoundsToNearestEven) {
  Cpu cpu(1);
  const float halfway = 1.0f + 1.0f / 256, next_halfway = 1.0f + 3.0f / 256;  // between two bfloat16
  const float payload = std::bit_cast<float>(0x7f800001u);  // a NaN whose upper half alone is infinity
  const std::vector<float> values{1,
                                  -0.0f,
                                  halfway,
                                  std::nextafter(halfway, 2.0f),
                                  next_halfway,
                                  std::numeric_limits<float>::max(),
                                  kInfinity,
                                  std::bit_cast<float>(0x00018000u)};
  const std::vector<uint16_t> want{0x3f80, 0x8000, 0x3f80, 0x3f81, 0x3f82, 0x7f80, 0x7f80, 0x0002};
  const Floats x({8}, values);
  Array<bfloat16> y({8}, bfloat16{});
  cast(cpu, x.view(), y.view());
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(y[i].bits, want[static_cast<size_t>(i)]) << values[static_cast<size_t>(i)];
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(payload))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(-kNaN))));
}

// The arithmetic is that of float, on values that bfloat16 holds; the result is rounded once.
TEST(Elementwise, Bfloat16IsFloatRoundedOnce) {
  Cpu cpu(2);
  const Shape shape{70001};  // three pieces
  const std::vector<float> a = rounded(random_array(shape, 1).values), b = rounded(random_array(shape, 2).values),
                           c = rounded(random_array(shape, 3).values);
  // op(a, b, y), where y holds c before.
  const auto compare = [&](const char* name, auto op) {
    SCOPED_TRACE(name);
    Floats wide(shape, c);
    const Floats wide_a(shape, a), wide_b(shape, b);
    op(wide_a.view(), wide_b.view(), wide.view());
    Array<bfloat16> narrow(shape, stored<bfloat16>(c));
    const Array<bfloat16> narrow_a(shape, stored<bfloat16>(a)), narrow_b(shape, stored<bfloat16>(b));
    op(narrow_a.view(), narrow_b.view(), narrow.view());
    EXPECT_EQ(widened(narrow.values), rounded(wide.values));
  };
  compare("fill", [&](auto, auto, auto y) { fill(cpu, y, 0.3f); });
  compare("add", [&](auto x, auto z, auto y) { add(cpu, x, z, y); });
  compare("relu", [&](auto x, auto, auto y) { relu(cpu, x, y); });
  compare("add_relu", [&](auto x, auto z, auto y) { add_relu(cpu, x, z, y); });
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    compare("copy", [&](auto x, auto, auto y) { copy(cpu, x, y, mode); });
    compare("scale", [&](auto x, auto, auto y) { scale(cpu, x, -0.3f, y, mode); });
    compare("relu_backward", [&](auto x, auto z, auto y) { relu_backward(cpu, x, z, y, mode); });
  }
}

TEST(Elementwise, CastMayAdd) {
  Cpu cpu(1);
  const float step = 1.0f / 128;  // between the bfloat16 from 1 to 2
  const Floats x({3}, {2, 0.625f * step, 0.75f * step});
  Array<bfloat16> y({3}, stored<bfloat16>({-5, 1, 1 + step}));
  cast(cpu, x.view(), y.view(), Accumulate::add);
  EXPECT_EQ(widened(y.values), (std::vector<float>{-3, 1 + step, 1 + 2 * step}));
  Floats wide({3}, {0.5f, 1, 2});
  cast(cpu, y.view(), wide.view(), Accumulate::add);
  EXPECT_EQ(wide.values, (std::vector<float>{-2.5f, 2 + step, 3 + 2 * step}));
  cast(cpu, y.view(), wide.view());
  EXPECT_EQ(wide.values, widened(y.values));
}

TEST(Elementwise, EveryBfloat16ReturnsFromFloat) {
  Cpu cpu(2);
  Array<bfloat16> all({65536}, bfloat16{}), back({65536}, bfloat16{});
  for (int64_t i = 0; i < 65536; ++i) all[i].bits = static_cast<uint16_t>(i);
  Floats wide({65536});
  cast(cpu, std::as_const(all).view(), wide.view());
  cast(cpu, std::as_const(wide).view(), back.view());
  for (int64_t i = 0; i < 65536; ++i) {
    const bool nan = (i & 0x7f80) == 0x7f80 && (i & 0x7f) != 0;
    EXPECT_EQ(std::isnan(wide[i]), nan) << i;
    EXPECT_EQ(back[i].bits, nan ? i | 0x40 : i);  // NaN becomes quiet
  }
}

}  // namespace
}  // namespace gradlibra::testing
