// SPDX-License-Identifier: MIT
#include "kernels/reduce.h"

#include <utility>

#include "kernels/elementwise.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/map_values.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;
using Doubles = Array<double>;

double squares_of(const Floats& x, int threads = 1) {
  Cpu cpu(threads);
  Doubles out({1}), workspace({reduce_workspace(x.size())});
  sum_squares(cpu, x.view(), out.view(), Accumulate::overwrite, workspace.view());
  return out[0];
}

TEST(Reduce, WorkedValues) {
  EXPECT_EQ(squares_of(Floats({3}, {30, -40, 120})), 130.0 * 130.0);
  EXPECT_EQ(squares_of(Floats({0}, std::vector<float>{})), 0.0);
  EXPECT_EQ(squares_of(Floats({1}, {1e30f})),
            static_cast<double>(1e30f) * static_cast<double>(1e30f));  // beyond float
  EXPECT_TRUE(std::isnan(squares_of(Floats({2}, {1, kNaN}))));

  Cpu cpu(1);
  Doubles out({1}, 10.0), workspace({1});
  sum_squares(cpu, Floats({2}, {1, 2}).view(), out.view(), Accumulate::add, workspace.view());
  EXPECT_EQ(out[0], 15.0);
}

TEST(Reduce, AccumulatesInDouble) {
  // Float would lose every 1 beside 2^26.
  Floats x({200001}, 1.0f);
  x[0] = 8192.0f;
  EXPECT_EQ(squares_of(x), 67108864.0 + 200000.0);
}

TEST(Reduce, SameBitsForEveryNumberOfThreads) {
  const Floats x = random_array({7, 23456}, 4);
  const double one = squares_of(x, 1);
  for (const int threads : {2, 3, 5}) EXPECT_EQ(squares_of(x, threads), one);
  long double exact = 0;
  for (const float v : x.values) exact += static_cast<long double>(v) * v;
  EXPECT_TRUE(near(one, static_cast<double>(exact), 1e-9, 1e-12));
}

TEST(SumRowSquares, WorkedValuesAndTheNormsOfAClassifier) {
  Cpu cpu(2);
  Doubles out({2});
  sum_row_squares(cpu, Floats({2, 3}, {1, -2, 2, 1e30f, 0, 0}).view(), out.view());
  EXPECT_EQ(out.values, (std::vector<double>{9, static_cast<double>(1e30f) * static_cast<double>(1e30f)}));
  Doubles none({0}, std::vector<double>{}), empty_rows({2});
  sum_row_squares(cpu, Floats({0, 3}, std::vector<float>{}).view(), none.view());
  sum_row_squares(cpu, Floats({2, 0}, std::vector<float>{}).view(), empty_rows.view());
  EXPECT_EQ(empty_rows.values, (std::vector<double>{0, 0}));
  EXPECT_THROW(sum_row_squares(cpu, Floats({3, 1}).view(), out.view()), std::invalid_argument);

  const nlohmann::json example = read_vectors("class_gradients")["weight_norm"];
  Doubles squares({4});
  sum_row_squares(cpu, Floats({4, 6}, flatten<float>(example["weight"])).view(), squares.view());
  const std::vector<double> want = flatten(example["norm"]);
  for (size_t c = 0; c < 4; ++c) EXPECT_TRUE(near(std::sqrt(squares.values[c]), want[c], 0, 1e-7)) << c;
}

TEST(SumRows, WorkedValues) {
  Cpu cpu(1);
  Floats out({2}), workspace({sum_rows_workspace(3, 2)});
  const Floats x({3, 1, 2}, {1, 2, 3, 4, 5, 6});
  sum_rows(cpu, x.view(), out.view(), Accumulate::overwrite, workspace.view());
  EXPECT_EQ(out.values, (std::vector<float>{9, 12}));
  sum_rows(cpu, x.view(), out.view(), Accumulate::add, workspace.view());
  EXPECT_EQ(out.values, (std::vector<float>{18, 24}));
  const Floats empty({0, 2}, std::vector<float>{});
  sum_rows(cpu, empty.view(), out.view(), Accumulate::add, {});
  EXPECT_EQ(out.values, (std::vector<float>{18, 24}));
  sum_rows(cpu, empty.view(), out.view(), Accumulate::overwrite, {});
  EXPECT_EQ(out.values, (std::vector<float>{0, 0}));
}

TEST(SumRows, AgainstDoubleForAnyNumberOfThreads) {
  for (const auto& [rows, channels] : {std::pair<int64_t, int64_t>{5000, 3}, {1, 17}, {333, 301}, {70, 2048}}) {
    const Floats x = random_array({rows, channels}, 5);
    std::vector<double> want(static_cast<size_t>(channels), 0.25);
    for (int64_t i = 0; i < x.size(); ++i) want[static_cast<size_t>(i % channels)] += static_cast<double>(x[i]);
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads);
      Floats out({channels}, 0.25f), workspace({sum_rows_workspace(rows, channels)});
      sum_rows(cpu, x.view(), out.view(), Accumulate::add, workspace.view());
      expect_near(out.values, want, 1e-4);  // 5000 values below 1, in float within a chunk of 1024
      if (first.empty()) first = out.values;
      EXPECT_EQ(out.values, first);
    }
  }
}

TEST(SumRows, Bfloat16IsSummedAsFloat) {
  Cpu cpu(2);
  const Shape shape{5000, 19};
  const Array<bfloat16> x(shape, stored<bfloat16>(random_array(shape, 5).values));
  const Floats wide(shape, widened(x.values));
  Floats out({19}, 0.25f), want({19}, 0.25f), workspace({sum_rows_workspace(5000, 19)});
  sum_rows(cpu, wide.view(), want.view(), Accumulate::add, workspace.view());
  sum_rows(cpu, x.view(), out.view(), Accumulate::add, workspace.view());
  EXPECT_EQ(out.values, want.values);
}

TEST(Reduce, WrongShapes) {
  Cpu cpu(1);
  const Floats x = random_array({40000}, 6);
  Doubles out({1}), two({2}), small({1});
  EXPECT_THROW(sum_squares(cpu, x.view(), two.view(), Accumulate::add, small.view()), std::invalid_argument);
  EXPECT_THROW(sum_squares(cpu, x.view(), out.view(), Accumulate::add, small.view()), std::invalid_argument);
  Floats wrong({2}), workspace({100});
  EXPECT_THROW(sum_rows(cpu, random_array({4, 3}, 7).view(), wrong.view(), Accumulate::add, workspace.view()),
               std::invalid_argument);
}

TEST(ReluBackwardSumRows, WorkedValues) {
  Cpu cpu(1);
  const Floats y({3, 2}, {1, 0, 0, 2, -1, 3}), grad_y({3, 2}, {10, 20, 30, 40, 50, 60});
  Floats grad_x({3, 2}), out({2}, {1, 2}), workspace({sum_rows_workspace(3, 2)});
  relu_backward_sum_rows<float>(cpu, y.view(), grad_y.view(), grad_x.view(), out.view(), Accumulate::overwrite,
                                workspace.view());
  EXPECT_EQ(grad_x.values, (std::vector<float>{10, 0, 0, 40, 0, 60}));
  EXPECT_EQ(out.values, (std::vector<float>{10, 100}));
  relu_backward_sum_rows<float>(cpu, y.view(), grad_x.view(), grad_x.view(), out.view(), Accumulate::add,
                                workspace.view());  // in place
  EXPECT_EQ(grad_x.values, (std::vector<float>{10, 0, 0, 40, 0, 60}));
  EXPECT_EQ(out.values, (std::vector<float>{20, 200}));
  const Floats other({2, 2});
  EXPECT_THROW(relu_backward_sum_rows<float>(cpu, other.view(), grad_y.view(), grad_x.view(), out.view(),
                                             Accumulate::add, workspace.view()),
               std::invalid_argument);
}

// The two kernels whose work it does, to the bit, for any number of threads; NaN passes where y is positive.
TEST(ReluBackwardSumRows, IsReluBackwardThenSumRows) {
  for (const Shape& shape : {Shape{0, 4}, Shape{5000, 3}, Shape{333, 301}, Shape{70, 2048}}) {
    const int64_t rows = shape[0], channels = shape[1];
    Floats y = random_array(shape, 5), grad_y = random_array(shape, 6);
    if (rows > 0) y[0] = 1, grad_y[0] = kNaN;
    const auto compare = [&]<class T>(T) {
      const Array<T> y_stored(shape, stored<T>(y.values)), grad_stored(shape, stored<T>(grad_y.values));
      Array<T> want(shape), got(shape);
      Floats want_sum({channels}, 0.25f), workspace({sum_rows_workspace(rows, channels)});
      Cpu one(1);
      relu_backward<T>(one, y_stored.view(), grad_stored.view(), want.view(), Accumulate::overwrite);
      sum_rows(one, std::as_const(want).view(), want_sum.view(), Accumulate::add, workspace.view());
      for (const int threads : {1, 3}) {
        Cpu cpu(threads);
        Floats sum({channels}, 0.25f);
        std::fill(got.values.begin(), got.values.end(), from_float<T>(kNaN));  // as if nothing had been written
        relu_backward_sum_rows<T>(cpu, y_stored.view(), grad_stored.view(), got.view(), sum.view(), Accumulate::add,
                                  workspace.view());
        expect_same(widened(got.values), widened(want.values));
        expect_same(sum.values, want_sum.values);
      }
    };
    compare(0.0f);
    compare(bfloat16{});
  }
}

}  // namespace
}  // namespace gradlibra::testing
