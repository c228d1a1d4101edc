// SPDX-License-Identifier: MIT
// The losses of runtime/autograd/ops/loss.h: value and gradient against double precision and its central differences.
#include "runtime/autograd/ops/loss.h"

#include <cmath>
#include <functional>

#include "tests/kernels/losses/any_sigmoid_loss.h"
#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using kernels::CrossEntropy;
using kernels::Focal;
using kernels::GradLibra;
using kernels::WeightGrad;
using testing::AnySigmoidLoss;
using testing::Doubles;
using testing::expect_near;
using testing::Input;
using testing::Leaves;
using testing::random_input;

class LossOps : public ::testing::Test {
 protected:
  double value(const Tensor& loss) { return context.download<double>(loss).at(0); }
  Tensor scalar(double v) { return context.upload<double>({&v, 1}, {1}); }
  Context context{1};
};

Doubles central_differences(const std::function<double(const Doubles&)>& f, Doubles x) {
  Doubles gradient;
  for (double& v : x) {
    const double at = v, h = 1e-6;
    v = at + h;
    const double above = f(x);
    v = at - h;
    gradient.push_back((above - f(x)) / (2 * h));
    v = at;
  }
  return gradient;
}

// psi(g) of one entry (arXiv:2208.03779, eq. 2-5, and arXiv:1708.02002); `held` is the logit that psi is computed at:
// another than z where the weight is a constant.
double entry_loss(double z, double held, bool positive, const AnySigmoidLoss& o) {
  const auto sigmoid = [](double t) { return 1 / (1 + std::exp(-t)); };
  const double sign = positive ? -1 : 1, g = sigmoid(sign * held);
  double psi = 1;
  if (const auto* focal = std::get_if<Focal>(&o)) {
    psi = std::pow(g, focal->gamma);
    if (focal->alpha >= 0) psi *= positive ? focal->alpha : 1 - focal->alpha;
  } else if (const auto* libra = std::get_if<GradLibra>(&o)) {
    const double alpha = positive ? libra->alpha_pos : libra->alpha_neg;
    if (alpha >= 0) psi = g - alpha * std::sin(g);
  }
  return psi * std::log1p(std::exp(sign * z));
}

TEST_F(LossOps, SigmoidLosses) {
  constexpr int64_t kClasses = 3;
  // Two images of three rows: every class, background (3), an ignored row, a row without and one with half weight.
  const std::vector<int32_t> labels{0, 1, 3, -1, 2, 3};
  const std::vector<float> row_weights{1, 0.5f, 1, 1, 0, 1};
  const Tensor device_labels = context.upload<int32_t>(labels, {2, 3}),
               device_weights = context.upload<float>(row_weights, {2, 3});
  const Tensor normalizer = scalar(2.5);
  constexpr double kLossWeight = 1.5;

  const std::vector<AnySigmoidLoss> losses{
      CrossEntropy{},
      Focal{},
      Focal{.gamma = 1.5, .alpha = 0.25},
      GradLibra{},
      GradLibra{.alpha_pos = 1, .alpha_neg = 0.3, .weight_grad = WeightGrad::full},
      GradLibra{.alpha_pos = kernels::kWeightOff, .alpha_neg = 0.8},
  };
  for (size_t k = 0; k < losses.size(); ++k) {
    SCOPED_TRACE("loss " + std::to_string(k));
    const AnySigmoidLoss& options = losses[k];
    const bool held =
        std::holds_alternative<GradLibra>(options) && std::get<GradLibra>(options).weight_grad == WeightGrad::detach;
    Input input = random_input({2, 3, kClasses}, 5, -4, 4);
    const Doubles start(input.values.begin(), input.values.end());
    const auto oracle = [&](const Doubles& logits) {
      double sum = 0;
      for (size_t i = 0; i < labels.size(); ++i)
        for (size_t c = 0; c < kClasses && labels[i] >= 0; ++c) {
          const double z = logits[i * kClasses + c];
          sum += row_weights[i] *
                 entry_loss(z, held ? start[i * kClasses + c] : z, labels[i] == static_cast<int32_t>(c), options);
        }
      return kLossWeight / 2.5 * sum;
    };
    const double want = oracle(start);
    const Doubles gradient = central_differences(oracle, start);

    Leaves leaves(context, {input}, {0});
    Tape tape(context);
    const auto on_tape = [&](double weight) {
      return std::visit(
          [&](const auto& member) {
            return ops::sigmoid_loss(tape, leaves.vars()[0], device_labels, device_weights, member, weight, normalizer);
          },
          options);
    };
    const Tensor loss = on_tape(kLossWeight);
    EXPECT_TRUE(testing::near(value(loss), want, 0, 1e-5)) << value(loss) << " " << want;
    expect_near(leaves.gradient(0), gradient, 1e-6, 1e-4);

    // A second loss on the same logits adds its gradient.
    (void)on_tape(2 * kLossWeight);
    Doubles three_times = gradient;
    for (double& v : three_times) v *= 3;
    expect_near(leaves.gradient(0), three_times, 1e-6, 1e-4);
  }
}

// A row that is ignored, or has weight 0, contributes exactly nothing, whatever its logits hold.
TEST_F(LossOps, IgnoredRowsMayHoldAnything) {
  const float nan = testing::kNaN;
  const std::vector<Input> inputs{{{1, 3, 1}, {nan, nan, 0}}};
  Leaves leaves(context, inputs, {0});
  Tape tape(context);
  const Tensor loss =
      ops::sigmoid_loss(tape, leaves.vars()[0], context.upload<int32_t>(std::vector<int32_t>{-1, 0, 0}, {1, 3}),
                        context.upload<float>(std::vector<float>{1, 0, 1}, {1, 3}), CrossEntropy{}, 1, scalar(1));
  EXPECT_NEAR(value(loss), std::log(2.0), 1e-6);
  EXPECT_EQ(leaves.gradient(0), (std::vector<float>{0, 0, -0.5f}));
}

TEST_F(LossOps, SmoothL1) {
  constexpr int64_t kRows = 4;
  const std::vector<float> row_weights{1, 0, 0.5f, 1, 1, 1, 0, 1}, scales{1.0f / 32, 1.0f / 32, 1.0f / 64, 0.25f};
  const Tensor weights = context.upload<float>(row_weights, {2, kRows}),
               row_scales = context.upload<float>(scales, {kRows});
  const std::vector<float> targets = testing::random_array({2, kRows, 4}, 2, -10, 10).values;
  const Tensor target = context.upload<float>(targets, {2, kRows, 4}), normalizer = scalar(3);
  const Input input = random_input({2, kRows, 4}, 1, -10, 10);
  const Doubles start(input.values.begin(), input.values.end());
  constexpr double kBeta = 0.11, kLossWeight = 0.5;
  size_t quadratic = 0;
  const auto oracle = [&](const Doubles& pred) {
    double sum = 0;
    quadratic = 0;
    for (size_t i = 0; i < pred.size(); ++i) {
      const double d = std::abs((pred[i] - targets[i]) * scales[i / 4 % kRows]);
      if (d < kBeta) ++quadratic;
      sum += row_weights[i / 4] * (d < kBeta ? d * d / (2 * kBeta) : d - kBeta / 2);
    }
    return kLossWeight / 3 * sum;
  };
  const double want = oracle(start);
  ASSERT_GT(quadratic, 2u) << "the example should show both branches";
  ASSERT_LT(quadratic, 30u);
  const Doubles gradient = central_differences(oracle, start);

  Leaves leaves(context, {input}, {0});
  Tape tape(context);
  const auto apply = [&](double loss_weight) {
    return ops::smooth_l1(tape, leaves.vars()[0], target, weights, row_scales, static_cast<float>(kBeta), loss_weight,
                          normalizer);
  };
  const Tensor loss = apply(kLossWeight);
  EXPECT_TRUE(testing::near(value(loss), want, 0, 1e-5)) << value(loss) << " " << want;
  expect_near(leaves.gradient(0), gradient, 1e-7, 1e-4);
  (void)apply(2 * kLossWeight);
  Doubles three_times = gradient;
  for (double& v : three_times) v *= 3;
  expect_near(leaves.gradient(0), three_times, 1e-7, 1e-4);
}

// Two losses of one value add up their gradients; what they compute is tested with their kernels.
TEST_F(LossOps, OverlapsAndCenterness) {
  const std::vector<float> sides{1, 2, 3, 4, 2, 2, 2, 2, 1, 1, 1, 1}, row_weights{1, 0.5f, 0};
  const Tensor target = context.upload<float>(std::vector<float>{2, 2, 2, 2, 1, 1, 3, 3, 9, 9, 9, 9}, {1, 3, 4});
  const Tensor weights = context.upload<float>(row_weights, {1, 3}), normalizer = scalar(2);
  Leaves leaves(context, {{{1, 3, 4}, sides}, {{1, 3, 1}, {0.5f, -1, 7}}}, {0, 1});
  Tape tape(context);
  const kernels::IouLoss distances{.form = kernels::BoxForm::distances};
  // Areas 24 and 16 share 3 x 4; the second pair 16 and 16 shares 3 x 3.
  const double first = -std::log(12.0 / (24 + 16 - 12)), second = -std::log(9.0 / (16 + 16 - 9));
  const auto iou = [&] {
    return value(ops::iou_loss(tape, leaves.vars()[0], target, weights, distances, 3, normalizer));
  };
  EXPECT_NEAR(iou(), 1.5 * (first + 0.5 * second), 1e-6);
  const std::vector<float> once = leaves.gradient(0);
  EXPECT_NE(once[0], 0);
  for (size_t i = 8; i < 12; ++i) EXPECT_EQ(once[i], 0);
  (void)iou();
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(leaves.gradient(0)[i], 2 * once[i]);

  const Tensor targets = context.upload<float>(std::vector<float>{0.25f, 1, 0}, {1, 3});
  const auto entropy = [](double z, double t) { return std::log1p(std::exp(z)) - t * z; };
  EXPECT_NEAR(value(ops::binary_cross_entropy(tape, leaves.vars()[1], targets, weights, 2, normalizer)),
              entropy(0.5, 0.25) + 0.5 * entropy(-1, 1), 1e-6);
  EXPECT_NEAR(leaves.gradient(1)[0], 1 / (1 + std::exp(-0.5)) - 0.25, 1e-6);
  EXPECT_EQ(leaves.gradient(1)[2], 0);
  EXPECT_THROW((void)ops::iou_loss(tape, leaves.vars()[1], target, weights, distances, 1, normalizer),
               std::invalid_argument);
  EXPECT_THROW((void)ops::binary_cross_entropy(tape, leaves.vars()[0], targets, weights, 1, normalizer),
               std::invalid_argument);
}

// Evaluation of a loss on values that nothing is trained by.
TEST_F(LossOps, ConstantInputsGetNoGradient) {
  Leaves leaves(context, {random_input({1, 2, 3}, 1), random_input({1, 2, 4}, 2)}, {});
  Tape tape(context);
  const Tensor labels = context.upload<int32_t>(std::vector<int32_t>{0, 3}, {1, 2}),
               weights = context.upload<float>(std::vector<float>{1, 1}, {1, 2});
  EXPECT_GT(value(ops::sigmoid_loss(tape, leaves.vars()[0], labels, weights, GradLibra{}, 1, scalar(1))), 0);
  EXPECT_GT(value(ops::smooth_l1(tape, leaves.vars()[1], context.zeros({1, 2, 4}), weights,
                                 context.upload<float>(std::vector<float>{1, 1}, {2}), 0.11f, 1, scalar(1))),
            0);
  EXPECT_FALSE(leaves[0].grad_written);
  EXPECT_FALSE(leaves[1].grad_written);
}

TEST_F(LossOps, NoRowsGiveZero) {
  Leaves leaves(context, {random_input({2, 0, 3}, 1), random_input({2, 0, 4}, 2)}, {0, 1});
  Tape tape(context);
  EXPECT_EQ(value(ops::sigmoid_loss(tape, leaves.vars()[0], context.empty({2, 0}, DType::i32), context.empty({2, 0}),
                                    GradLibra{}, 1, scalar(1))),
            0);
  EXPECT_EQ(value(ops::smooth_l1(tape, leaves.vars()[1], context.empty({2, 0, 4}), context.empty({2, 0}),
                                 context.empty({0}), 0.11f, 1, scalar(1))),
            0);
}

TEST_F(LossOps, LogitsAndLabelsMustFit) {
  Leaves leaves(context, {random_input({1, 2, 3}, 1)}, {});
  Tape tape(context);
  EXPECT_THROW((void)ops::sigmoid_loss(tape, leaves.vars()[0], context.zeros({3}, DType::i32), context.zeros({3}),
                                       GradLibra{}, 1, scalar(1)),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
