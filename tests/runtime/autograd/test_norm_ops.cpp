// SPDX-License-Identifier: MIT
// Batch and group norm of runtime/autograd/ops/norm.h against the double-precision oracle of the kernels' tests.
#include "tests/kernels/norms/norm_oracle.h"
#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using ops::Activation;
using testing::Doubles;
using testing::GradientCheck;
using testing::Input;
using testing::Leaves;
using testing::NormOracle;
using testing::random_array;
using testing::random_input;
using testing::seed_gradient;

class NormOps : public ::testing::Test {
 protected:
  Context context{1};
};

// Running statistics as a model owns them.
struct Buffers {
  Buffers(Context& context, const std::vector<float>& mean, const std::vector<float>& var) {
    const auto C = static_cast<int64_t>(mean.size());
    running_mean.value = context.upload<float>(mean, {C});
    running_var.value = context.upload<float>(var, {C});
  }
  [[nodiscard]] ops::BatchNormBuffers options() { return {&running_mean, &running_var}; }
  Node running_mean, running_var;
};

TEST_F(NormOps, GradientsOfBatchNorm) {
  for (const Activation activation : {Activation::none, Activation::relu}) {
    constexpr int64_t kRows = 2 * 3 * 5, kChannels = 3;
    Buffers buffers(context, random_array({kChannels}, 8).values, random_array({kChannels}, 9, 0.5f, 2).values);
    GradientCheck check;
    check.inputs = {random_input({2, 3, 5, kChannels}, 1), random_input({kChannels}, 2, 0.5f, 1.5f),
                    random_input({kChannels}, 3)};
    check.op = [&](Tape& tape, const std::vector<Var>& v) {
      return ops::batch_norm(tape, v[0], v[1], v[2], buffers.options(), activation);
    };
    check.oracle = [&](const std::vector<Doubles>& v) {
      return NormOracle{.N = 1,
                        .R = kRows,
                        .C = kChannels,
                        .G = kChannels,
                        .relu = activation == Activation::relu,
                        .x = v[0],
                        .weight = v[1],
                        .bias = v[2]}
          .forward();
    };
    check.trained_alone = {{0}, {1, 2}};
    check.run(context);
  }
}

TEST_F(NormOps, BatchNormUpdatesRunningStatistics) {
  Buffers buffers(context, {1, 10}, {4, 1});
  const std::vector<Input> inputs{{{1, 1, 3, 2}, {1, 2, 2, 2, 6, 2}}, {{2}, {1, 1}}, {{2}, {0, 0}}};
  Leaves leaves(context, inputs, {});
  const auto v = leaves.vars();
  Tape tape(context);
  const Var y = ops::batch_norm(tape, v[0], v[1], v[2], buffers.options(), Activation::none);
  // Channel 0: mean 3, squared deviations 4 + 1 + 9, biased variance 14/3, unbiased 7. Channel 1 is constant.
  testing::expect_near(context.download<float>(y.node().value),
                       Doubles{-2 / std::sqrt(14.0 / 3), 0, -1 / std::sqrt(14.0 / 3), 0, 3 / std::sqrt(14.0 / 3), 0},
                       1e-5);
  testing::expect_near(context.download<float>(buffers.running_mean.value),
                       Doubles{0.9 * 1 + 0.1 * 3, 0.9 * 10 + 0.1 * 2}, 1e-6);
  testing::expect_near(context.download<float>(buffers.running_var.value), Doubles{0.9 * 4 + 0.1 * 7, 0.9}, 1e-6);
}

TEST_F(NormOps, GradientsOfGroupNorm) {
  for (const int groups : {1, 2, 6})
    for (const Activation activation : {Activation::none, Activation::relu}) {
      SCOPED_TRACE(std::to_string(groups) + " groups");
      GradientCheck check;
      check.inputs = {random_input({2, 3, 5, 6}, 1), random_input({6}, 2, 0.5f, 1.5f), random_input({6}, 3)};
      check.op = [=](Tape& tape, const std::vector<Var>& v) {
        return ops::group_norm(tape, v[0], v[1], v[2], groups, 1e-5f, activation);
      };
      check.oracle = [=](const std::vector<Doubles>& v) {
        return NormOracle{.N = 2,
                          .R = 15,
                          .C = 6,
                          .G = groups,
                          .relu = activation == Activation::relu,
                          .x = v[0],
                          .weight = v[1],
                          .bias = v[2]}
            .forward();
      };
      check.trained_alone = {{0}, {1, 2}};
      check.run(context);
    }
}

TEST_F(NormOps, GroupNormOfAnEmptyBatch) {
  const std::vector<Input> inputs{random_input({0, 3, 3, 4}, 1), random_input({4}, 2), random_input({4}, 3)};
  Leaves leaves(context, inputs, {0, 1, 2});
  const auto v = leaves.vars();
  Tape tape(context);
  const Var y = ops::group_norm(tape, v[0], v[1], v[2], 2, 1e-5f, Activation::relu);
  seed_gradient(tape, y, {});
  tape.backward();
  EXPECT_EQ(leaves.gradient(1), std::vector<float>(4, 0.0f));
  EXPECT_EQ(leaves.gradient(2), std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace gradlibra
