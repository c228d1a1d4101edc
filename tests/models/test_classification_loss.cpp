// SPDX-License-Identifier: MIT
// The classification loss made from its configuration.
#include "models/losses/classification_loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/config.h"
#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

std::string failure(const LossConfig& config) {
  return message_of<std::invalid_argument>([&] {
    Context context(1);
    (void)make_classification_loss(context, config, unknown_classes(2));
  });
}

void expect_names(const LossConfig& config, const std::string& key) {
  EXPECT_NE(failure(config).find(key), std::string::npos) << failure(config) << ", expected " << key;
}

TEST(ClassificationLoss, ErrorsNameTheKey) {
  const double nan = testing::kNaN;
  expect_names({.type = "dice"}, "model.loss.type");
  for (const double prior : {0.0, 1.0, -0.5, 2.0, nan})
    expect_names({.prior_probability = prior}, "model.loss.prior_probability");
  for (const char* alpha : {"on", "", "0.8x", "-0.1", "1.1", "nan", "inf", "1e999", "0,8"}) {
    expect_names({.grad_libra = {.alpha_pos = alpha}}, "model.loss.alpha_pos");
    expect_names({.grad_libra = {.alpha_neg = alpha}}, "model.loss.alpha_neg");
  }
  for (const double gamma : {-1.0, nan})
    expect_names({.type = "focal", .focal = {.gamma = gamma}}, "model.loss.focal_gamma");
  for (const double alpha : {1.5, nan})
    expect_names({.type = "focal", .focal = {.alpha = alpha}}, "model.loss.focal_alpha");
}

TEST(ClassificationLoss, EndsOfTheRangesAreAllowed) {
  for (const char* alpha : {"0", "1", "0.8", "8e-1", "off"})
    EXPECT_EQ(failure({.grad_libra = {.alpha_pos = alpha, .alpha_neg = alpha}}), "") << alpha;
  EXPECT_EQ(failure({.type = "focal", .focal = {.gamma = 0, .alpha = 1}}), "");
  EXPECT_EQ(failure({.type = "focal", .focal = {.alpha = -1}}), "");
  // A key of another loss is not looked at.
  EXPECT_EQ(failure({.type = "cross_entropy", .grad_libra = {.alpha_pos = "nonsense"}, .focal = {.gamma = -3}}), "");
}

TEST(ClassificationLoss, BiasStartsAtThePriorProbability) {
  Context context(1);
  const auto loss = make_classification_loss(context, {}, unknown_classes(10));
  EXPECT_EQ(loss->channels(), 10);
  const std::vector<float> bias = loss->bias_init();
  ASSERT_EQ(bias.size(), 10u);
  for (const float b : bias) EXPECT_NEAR(b, -4.59511985013459, 1e-6);  // -ln(99)
  const LossConfig likelier{.prior_probability = 0.2};
  EXPECT_NEAR(make_classification_loss(context, likelier, unknown_classes(1))->bias_init()[0], std::log(0.25), 1e-6);
}

TEST(ClassificationLoss, ScoresAreSigmoids) {
  Context context(1);
  Tape tape(context, Tape::Mode::inference);
  const Var logits = tape.constant(context.upload<float>(std::vector<float>{0, -std::log(3.0f), 200, -200}, {1, 2, 2}));
  const auto loss = make_classification_loss(context, {}, unknown_classes(2));
  const Tensor scores = loss->scores(tape, logits);
  EXPECT_EQ(scores.shape(), (Shape{1, 2, 2}));
  const std::vector<float> values = context.download<float>(scores);
  EXPECT_FLOAT_EQ(values[0], 0.5f);
  EXPECT_FLOAT_EQ(values[1], 0.25f);
  EXPECT_EQ(values[2], 1.0f);
  EXPECT_NEAR(values[3], 0.0f, 1e-30);

  Tape shapes(context, Tape::Mode::shapes);
  EXPECT_TRUE(loss->scores(shapes, shapes.make({1, 4, 2}, false)).empty());
}

// Value and gradient of one positive and one negative entry, each with logit 0: g = 1/2, ce = ln 2.
struct Result {
  double loss;
  std::vector<float> gradient;
};
Result at_zero(const LossConfig& config) {
  Context context(1);
  Node node;
  node.value = context.zeros({1, 1, 2});
  node.requires_grad = true;
  const double two = 2;
  Tape tape(context);
  const Tensor labels = context.upload<int32_t>(std::vector<int32_t>{0}, {1, 1}),
               weights = context.upload<float>(std::vector<float>{1}, {1, 1});
  const Rows rows{Var(&node), labels, weights};
  const auto made = make_classification_loss(context, config, unknown_classes(2));
  const Tensor before = made->before(tape, rows);
  EXPECT_TRUE(before.empty());
  const Tensor loss = made->loss(tape, rows, context.upload<double>({&two, 1}, {1}), {before});
  EXPECT_TRUE(made->increments().empty());
  EXPECT_TRUE(made->state().empty());
  return {context.download<double>(loss)[0], context.download<float>(node.grad)};
}

void expect_result(const LossConfig& config, double loss, double positive, double negative) {
  const Result result = at_zero(config);
  EXPECT_NEAR(result.loss, loss, 1e-6);
  ASSERT_EQ(result.gradient.size(), 2u);
  EXPECT_NEAR(result.gradient[0], positive, 1e-6);
  EXPECT_NEAR(result.gradient[1], negative, 1e-6);
}

TEST(ClassificationLoss, EveryKindAtLogitZero) {
  const double ln2 = std::log(2.0), F = 0.5 - 0.8 * std::sin(0.5), F1 = 0.5 - std::sin(0.5);
  expect_result({.type = "cross_entropy"}, 2 * ln2 / 2, -0.25, 0.25);
  expect_result({.type = "cross_entropy", .weight = 3}, 3 * ln2, -0.75, 0.75);
  // d/dt g^2 ce = 2 g^2 (1 - g) ce + g^3
  const double focal = 0.25 * ln2 + 0.125;
  expect_result({.type = "focal"}, 0.25 * ln2, -focal / 2, focal / 2);
  expect_result({.type = "focal", .focal = {.alpha = 0.25}}, (0.25 + 0.75) * 0.25 * ln2 / 2, -0.25 * focal / 2,
                0.75 * focal / 2);
  expect_result({.type = "grad_libra"}, F * ln2, -F / 4, F / 4);
  expect_result({.type = "grad_libra", .grad_libra = {.alpha_pos = "1"}}, (F1 + F) * ln2 / 2, -F1 / 4, F / 4);
  const double full = 0.5 * F + (1 - 0.8 * std::cos(0.5)) * 0.25 * ln2;
  expect_result({.type = "grad_libra", .grad_libra = {.weight_grad = "full"}}, F * ln2, -full / 2, full / 2);
}

TEST(ClassificationLoss, AlphaOffLeavesCrossEntropyOnThatSide) {
  const double ln2 = std::log(2.0), F = 0.5 - 0.8 * std::sin(0.5);
  expect_result({.grad_libra = {.alpha_pos = "off"}}, (1 + F) * ln2 / 2, -0.25, F / 4);
  expect_result({.grad_libra = {.alpha_neg = "off"}}, (1 + F) * ln2 / 2, -F / 4, 0.25);
  const Result off = at_zero({.grad_libra = {.alpha_pos = "off", .alpha_neg = "off"}}),
               plain = at_zero({.type = "cross_entropy"});
  EXPECT_EQ(off.loss, plain.loss);
  EXPECT_EQ(off.gradient, plain.gradient);
}

}  // namespace
}  // namespace gradlibra
