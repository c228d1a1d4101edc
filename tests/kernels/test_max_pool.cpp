// SPDX-License-Identifier: MIT
#include "kernels/max_pool.h"

#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Pooled {
  Floats y;
  Array<uint8_t> taps;
};

Shape pooled_shape(const Shape& x, const PoolShape& s) {
  return {x[0], pooled_size(x[1], s), pooled_size(x[2], s), x[3]};
}

Pooled pool(const Floats& x, const PoolShape& s, int threads = 1) {
  Cpu cpu(threads);
  const Shape shape = pooled_shape(x.shape, s);
  Pooled p{Floats(shape), Array<uint8_t>(shape, uint8_t{255})};
  max_pool(cpu, x.view(), s, p.y.view(), p.taps.view());
  return p;
}

// Window by window, in the order of the taps.
Pooled oracle(const Floats& x, const PoolShape& s) {
  const Shape shape = pooled_shape(x.shape, s);
  Pooled p{Floats(shape), Array<uint8_t>(shape, uint8_t{255})};
  int64_t out = 0;
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t i = 0; i < shape[1]; ++i)
      for (int64_t j = 0; j < shape[2]; ++j)
        for (int64_t c = 0; c < shape[3]; ++c, ++out) {
          int winner = -1;
          float best = 0;
          for (int tap = s.kernel * s.kernel - 1; tap >= 0; --tap) {  // from the last: a tie goes to the lower one
            const int64_t h = i * s.stride - s.padding + tap / s.kernel, w = j * s.stride - s.padding + tap % s.kernel;
            if (h < 0 || w < 0 || h >= x.shape[1] || w >= x.shape[2]) continue;
            const float v = x[((n * x.shape[1] + h) * x.shape[2] + w) * shape[3] + c];
            if (winner < 0 || std::isnan(v) || (!std::isnan(best) && v >= best)) best = v, winner = tap;
          }
          p.y[out] = best;
          p.taps[out] = static_cast<uint8_t>(winner);
        }
  return p;
}

TEST(MaxPool, WorkedExample) {
  //  1  2  3  4
  //  8  7  6  5     3x3, stride 2, padding 1: windows centred on (0,0), (0,2), (2,0), (2,2)
  // -1 -2 -3 -4
  // -5 -6 -7 -8
  const Floats x({1, 4, 4, 1}, {1, 2, 3, 4, 8, 7, 6, 5, -1, -2, -3, -4, -5, -6, -7, -8});
  const Pooled p = pool(x, {});
  EXPECT_EQ(p.y.values, (std::vector<float>{8, 7, 8, 7}));
  EXPECT_EQ(p.taps.values, (std::vector<uint8_t>{7, 6, 1, 0}));

  Cpu cpu(1);
  const Floats grad_y({1, 2, 2, 1}, {1, 10, 100, 1000});
  Floats grad_x(x.shape);
  max_pool_backward(cpu, grad_y.view(), p.taps.view(), {}, grad_x.view(), Accumulate::overwrite);
  std::vector<float> want(16, 0.0f);
  want[4] = 101;   // the 8 won two windows
  want[5] = 1010;  // the 7 too
  EXPECT_EQ(grad_x.values, want);
  max_pool_backward(cpu, grad_y.view(), p.taps.view(), {}, grad_x.view(), Accumulate::add);
  for (float& v : want) v *= 2;
  EXPECT_EQ(grad_x.values, want);
}

TEST(MaxPool, PaddingIsMinusInfinityAndTiesGoToTheLowestTap) {
  const Floats negative({1, 2, 2, 1}, {-5, -5, -5, -5});
  const Pooled p = pool(negative, {});
  EXPECT_EQ(p.y.values, (std::vector<float>{-5}));
  EXPECT_EQ(p.taps.values, (std::vector<uint8_t>{4}));  // taps 0 to 3 lie in the padding
  const Pooled lowest = pool(Floats({1, 1, 1, 1}, -kInfinity), {});
  EXPECT_EQ(lowest.y[0], -kInfinity);
  EXPECT_EQ(lowest.taps[0], 4);
}

TEST(MaxPool, NaNWins) {
  const Floats x({1, 1, 3, 2}, {1, kNaN, kNaN, kInfinity, 3, kNaN});
  const Pooled p = pool(x, {.kernel = 3, .stride = 3, .padding = 1});
  // one window over columns -1, 0, 1: channel 0 has NaN at tap 5, channel 1 at tap 4
  expect_same(p.y.values, {kNaN, kNaN});
  EXPECT_EQ(p.taps.values, (std::vector<uint8_t>{5, 4}));
}

TEST(MaxPool, EqualsTheOracleAndItsScatter) {
  const PoolShape windows[] = {{3, 2, 1}, {1, 2, 0}, {2, 2, 0}, {5, 3, 2}, {3, 1, 2}, {15, 4, 7}};
  uint32_t seed = 1;
  for (const PoolShape& s : windows)
    for (const Shape& shape : {Shape{2, 16, 15, 3}, Shape{1, 17, 18, 40}, Shape{1, 15, 15, 301}}) {
      SCOPED_TRACE(shape.to_string() + " kernel " + std::to_string(s.kernel));
      Floats x = random_array(shape, ++seed);
      for (float& v : x.values) v = std::floor(4 * v);  // many ties
      x[7] = kNaN;
      const Pooled got = pool(x, s, 2), want = oracle(x, s);
      expect_same(got.y.values, want.y.values);
      ASSERT_EQ(got.taps.values, want.taps.values);

      const Floats grad_y = random_array(want.y.shape, ++seed);
      std::vector<double> scattered(x.values.size(), 0.5);
      for (int64_t i = 0; i < grad_y.size(); ++i) {
        const int64_t c = i % shape[3], col = i / shape[3] % grad_y.shape[2];
        const int64_t row = i / shape[3] / grad_y.shape[2] % grad_y.shape[1], n = i / (grad_y.size() / shape[0]);
        const int64_t h = row * s.stride - s.padding + want.taps[i] / s.kernel;
        const int64_t w = col * s.stride - s.padding + want.taps[i] % s.kernel;
        scattered[static_cast<size_t>(((n * shape[1] + h) * shape[2] + w) * shape[3] + c)] +=
            static_cast<double>(grad_y[i]);
      }
      Cpu cpu(2);
      Floats grad_x(shape, 0.5f);
      max_pool_backward(cpu, grad_y.view(), got.taps.view(), s, grad_x.view(), Accumulate::add);
      expect_near(grad_x.values, scattered, 2e-5);  // up to 16 windows of values below 1
    }
}

TEST(MaxPool, Bfloat16IsFloatRoundedOnce) {
  Cpu cpu(2);
  const PoolShape s{.kernel = 3, .stride = 1, .padding = 1};  // up to nine windows per element
  const Shape shape{2, 7, 9, 261};                            // two tiles of channels
  Array<bfloat16> x(shape, stored<bfloat16>(random_array(shape, 1).values));
  x[7] = to_bfloat16(kNaN);
  const Pooled want = pool(Floats(shape, widened(x.values)), s);
  Array<bfloat16> y(want.y.shape, to_bfloat16(kNaN));
  Array<uint8_t> taps(want.y.shape, uint8_t{255});
  max_pool(cpu, x.view(), s, y.view(), taps.view());
  expect_same(widened(y.values), want.y.values);
  EXPECT_EQ(taps.values, want.taps.values);

  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    const Array<bfloat16> grad_y(y.shape, stored<bfloat16>(random_array(y.shape, 2).values));
    Array<bfloat16> grad_x(shape, stored<bfloat16>(random_array(shape, 3).values));
    Floats wide(shape, widened(grad_x.values));
    max_pool_backward(cpu, Floats(y.shape, widened(grad_y.values)).view(), taps.view(), s, wide.view(), mode);
    max_pool_backward(cpu, grad_y.view(), taps.view(), s, grad_x.view(), mode);
    EXPECT_EQ(widened(grad_x.values), rounded(wide.values));
  }
}

TEST(MaxPool, EmptyAndWrongShapes) {
  Cpu cpu(1);
  Floats x({0, 4, 4, 2}, {}), y({0, 2, 2, 2}, {}), wrong({0, 3, 2, 2}, {});
  Array<uint8_t> taps({0, 2, 2, 2}, std::vector<uint8_t>{});
  max_pool(cpu, x.view(), {}, y.view(), taps.view());
  max_pool_backward(cpu, y.view(), taps.view(), {}, x.view(), Accumulate::overwrite);
  EXPECT_THROW(max_pool(cpu, x.view(), {}, wrong.view(), taps.view()), std::invalid_argument);
  EXPECT_THROW(max_pool(cpu, x.view(), {2, 2, 2}, y.view(), taps.view()), std::invalid_argument);
  EXPECT_THROW(max_pool(cpu, x.view(), {7, 2, 1}, y.view(), taps.view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
