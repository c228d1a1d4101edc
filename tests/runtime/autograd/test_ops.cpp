// SPDX-License-Identifier: MIT
// Elementwise operations and those that change the size of maps, against double precision.
#include <algorithm>
#include <cmath>

#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using testing::Doubles;
using testing::GradientCheck;
using testing::Input;
using testing::Leaves;
using testing::random_input;
using testing::seed_gradient;

class Ops : public ::testing::Test {
 protected:
  Context context{1};
};

TEST_F(Ops, Relu) {
  GradientCheck check;
  check.inputs = {random_input({2, 3, 5, 3}, 1)};
  check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::relu(tape, v[0]); };
  check.oracle = [](const std::vector<Doubles>& v) {
    Doubles y = v[0];
    for (double& value : y) value = std::max(value, 0.0);
    return y;
  };
  check.run(context);
}

TEST_F(Ops, ScaledActivations) {
  for (const auto f :
       {kernels::ScaledActivation::identity, kernels::ScaledActivation::exp, kernels::ScaledActivation::clamp}) {
    GradientCheck check;
    check.inputs = {random_input({2, 3, 5, 4}, 1), random_input({}, 2, 0.5f, 1.5f)};
    check.op = [f](Tape& tape, const std::vector<Var>& v) { return ops::scaled_activation(tape, v[0], v[1], f); };
    check.oracle = [f](const std::vector<Doubles>& v) {
      Doubles y = v[0];
      for (double& x : y) {
        x *= v[1][0];
        if (f == kernels::ScaledActivation::exp) x = std::exp(x);
        if (f == kernels::ScaledActivation::clamp) x = std::max(x, 0.0);
      }
      return y;
    };
    check.trained_alone = {{0}, {1}};
    check.run(context);
  }
}

TEST_F(Ops, AddRelu) {
  GradientCheck check;
  check.inputs = {random_input({2, 3, 5, 3}, 1), random_input({2, 3, 5, 3}, 2)};
  check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::add_relu(tape, v[0], v[1]); };
  check.oracle = [](const std::vector<Doubles>& v) {
    Doubles y = v[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] = std::max(y[i] + v[1][i], 0.0);
    return y;
  };
  check.trained_alone = {{0}, {1}};
  check.run(context);
}

// Both inputs the same value: 2 relu(x), and a gradient of 2.
TEST_F(Ops, AddReluOfAValueWithItself) {
  GradientCheck check;
  check.inputs = {random_input({1, 2, 3, 2}, 1)};
  check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::add_relu(tape, v[0], v[0]); };
  check.oracle = [](const std::vector<Doubles>& v) {
    Doubles y = v[0];
    for (double& value : y) value = std::max(2 * value, 0.0);
    return y;
  };
  check.run(context);
}

void check_max_pool(Context& context, int64_t H, int64_t W, const kernels::PoolShape& s) {
  SCOPED_TRACE(std::to_string(H) + "x" + std::to_string(W) + ", kernel " + std::to_string(s.kernel));
  constexpr int64_t N = 2, C = 3;
  GradientCheck check;
  check.inputs = {random_input({N, H, W, C}, 1)};
  check.op = [=](Tape& tape, const std::vector<Var>& v) { return ops::max_pool(tape, v[0], s); };
  check.oracle = [=](const std::vector<Doubles>& v) {
    Doubles y;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t top = -s.padding; top + s.kernel <= H + s.padding; top += s.stride)
        for (int64_t left = -s.padding; left + s.kernel <= W + s.padding; left += s.stride)
          for (int64_t c = 0; c < C; ++c) {
            double largest = -std::numeric_limits<double>::infinity();
            for (int64_t i = std::max<int64_t>(top, 0); i < std::min(top + s.kernel, H); ++i)
              for (int64_t j = std::max<int64_t>(left, 0); j < std::min(left + s.kernel, W); ++j)
                largest = std::max(largest, v[0][static_cast<size_t>(((n * H + i) * W + j) * C + c)]);
            y.push_back(largest);
          }
    return y;
  };
  check.run(context);
}

TEST_F(Ops, MaxPool) {
  check_max_pool(context, 6, 5, {.kernel = 3, .stride = 2, .padding = 1});
  check_max_pool(context, 5, 8, {.kernel = 3, .stride = 2, .padding = 1});
  check_max_pool(context, 4, 4, {.kernel = 2, .stride = 2, .padding = 0});
  check_max_pool(context, 5, 5, {.kernel = 3, .stride = 1, .padding = 1});
}

TEST_F(Ops, Subsample2) {
  for (const auto& [H, W] : {std::pair<int64_t, int64_t>{4, 6}, {5, 3}, {1, 1}}) {
    GradientCheck check;
    check.inputs = {random_input({2, H, W, 3}, 1)};
    check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::subsample2(tape, v[0]); };
    check.oracle = [H, W](const std::vector<Doubles>& v) {
      Doubles y;
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t i = 0; i < H; i += 2)
          for (int64_t j = 0; j < W; j += 2)
            for (int64_t c = 0; c < 3; ++c) y.push_back(v[0][static_cast<size_t>(((n * H + i) * W + j) * 3 + c)]);
      return y;
    };
    check.run(context);
  }
}

TEST_F(Ops, UpsampleAdd) {
  struct Sizes {
    int64_t h, w, H, W;
  };
  for (const Sizes& s : {Sizes{2, 3, 4, 6}, Sizes{3, 2, 5, 3}, Sizes{1, 1, 1, 1}}) {
    GradientCheck check;
    check.inputs = {random_input({2, s.h, s.w, 2}, 1), random_input({2, s.H, s.W, 2}, 2)};
    check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::upsample_add(tape, v[0], v[1]); };
    check.oracle = [s](const std::vector<Doubles>& v) {
      Doubles y = v[1];
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t i = 0; i < s.H; ++i)
          for (int64_t j = 0; j < s.W; ++j)
            for (int64_t c = 0; c < 2; ++c)
              y[static_cast<size_t>(((n * s.H + i) * s.W + j) * 2 + c)] +=
                  v[0][static_cast<size_t>(((n * s.h + i * s.h / s.H) * s.w + j * s.w / s.W) * 2 + c)];
      return y;
    };
    check.trained_alone = {{0}, {1}};
    check.run(context);
  }
}

TEST_F(Ops, ConcatLevels) {
  GradientCheck check;
  check.inputs = {random_input({2, 3, 4, 2}, 1), random_input({2, 2, 2, 2}, 2), random_input({2, 1, 1, 2}, 3)};
  check.op = [](Tape& tape, const std::vector<Var>& v) { return ops::concat_levels(tape, v); };
  check.oracle = [](const std::vector<Doubles>& v) {
    Doubles y;
    for (int64_t n = 0; n < 2; ++n)
      for (const Doubles& level : v) {
        const auto half = static_cast<int64_t>(level.size() / 2);
        y.insert(y.end(), level.begin() + n * half, level.begin() + (n + 1) * half);
      }
    return y;
  };
  check.trained_alone = {{0}, {1}, {0, 2}};
  check.run(context);

  Tape tape(context);
  Leaves other(context, {random_input({2, 3, 4, 2}, 1), random_input({2, 3, 4, 3}, 2), random_input({1, 3, 4, 2}, 3)},
               {});
  const auto v = other.vars();
  EXPECT_THROW((void)ops::concat_levels(tape, std::vector<Var>{v[0], v[1]}), std::invalid_argument);
  EXPECT_THROW((void)ops::concat_levels(tape, std::vector<Var>{v[0], v[2]}), std::invalid_argument);
  EXPECT_THROW((void)ops::concat_levels(tape, std::vector<Var>{}), std::invalid_argument);
}

// The value's derivative is 1; what flows back is grad_factor times that.
// Nothing to compute, nothing to read beyond an end.
TEST_F(Ops, EmptyBatches) {
  const std::vector<Input> inputs{random_input({0, 4, 4, 3}, 1), random_input({0, 2, 2, 3}, 2)};
  Leaves leaves(context, inputs, {0, 1});
  const auto v = leaves.vars();
  Tape tape(context);
  const std::vector<Var> outputs{ops::relu(tape, v[0]),
                                 ops::add_relu(tape, v[0], v[0]),
                                 ops::max_pool(tape, v[0], {}),
                                 ops::subsample2(tape, v[0]),
                                 ops::upsample_add(tape, v[1], v[0]),
                                 ops::concat_levels(tape, std::vector<Var>{v[0], v[1]})};
  for (const Var& y : outputs) {
    EXPECT_EQ(y.dim(0), 0);
    seed_gradient(tape, y, {});
  }
  tape.backward();
}

}  // namespace
}  // namespace gradlibra
