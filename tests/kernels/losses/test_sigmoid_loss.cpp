// SPDX-License-Identifier: MIT
// Sigmoid losses on the host: worked examples in float and double, extreme logits, ignored rows, finite differences.
#include "kernels/losses/sigmoid_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/kernels/losses/any_sigmoid_loss.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

// Targets of the examples: a double evaluation, and a float one for entries above 1e-30.
constexpr double kDouble = 1e-12, kDoubleAbs = 1e-14, kFloat = 3e-6, kFloatAbs = 1e-30, kTotal = 1e-5;

AnySigmoidLoss options_of(const json& example) {
  const std::string name = example["loss"];
  const json& params = example["params"];
  const auto number_or = [&](const char* key, double otherwise) {
    return params.contains(key) && !params[key].is_null() ? params[key].get<double>() : otherwise;
  };
  if (name == "ce") return CrossEntropy{};
  if (name != "grad_libra") return Focal{.gamma = number_or("gamma", 2), .alpha = number_or("alpha", -1)};
  return GradLibra{
      .alpha_pos = number_or("alpha_pos", kWeightOff),
      .alpha_neg = number_or("alpha_neg", kWeightOff),
      .weight_grad = params.value("weight_grad", "detach") == "full" ? WeightGrad::full : WeightGrad::detach};
}

struct Result {
  double loss = NAN;
  std::vector<float> grad;
};

Result run(const std::vector<float>& logits, const std::vector<int32_t>& labels, const std::vector<float>& weights,
           const AnySigmoidLoss& options, double loss_weight = 1, double normalizer = 1, int threads = 2) {
  const auto R = static_cast<int64_t>(labels.size());
  const int64_t C = R > 0 ? static_cast<int64_t>(logits.size()) / R : 3;
  Cpu cpu(threads);
  Result result;
  result.grad.assign(logits.size(), kNaN);
  const std::vector<double> norm = {normalizer};
  std::vector<double> loss = {NAN};
  std::vector<double> workspace(static_cast<size_t>(sigmoid_loss_workspace(R, C)), NAN);
  std::visit(
      [&](const auto& member) {
        sigmoid_loss(cpu, view(logits, {R, C}), view(labels, {R}), view(weights, {R}), member,
                     {loss_weight, view(norm, {1}), view(loss, {1}), view(result.grad, {R, C}),
                      view(workspace, {static_cast<int64_t>(workspace.size())})});
      },
      options);
  result.loss = loss[0];
  return result;
}

TEST(SigmoidLoss, WorkedExamples) {
  const json vectors = read_vectors("sigmoid_loss");
  ASSERT_GE(vectors["sigmoid_losses"].size(), 40u);
  for (const json& example : vectors["sigmoid_losses"]) {
    SCOPED_TRACE(example["id"].get<std::string>());
    const AnySigmoidLoss options = options_of(example);
    const json& expected = example["expected"];
    const auto exact = flatten(example["logits"]);
    const auto logits = flatten<float>(example["logits"]);
    const auto labels = flatten<int32_t>(example["labels"]);
    const auto weights = flatten<float>(example["weights"]);
    const size_t C = logits.size() / labels.size();
    const auto element_loss = flatten(expected["element_loss"]), element_grad = flatten(expected["element_grad"]);
    for (size_t i = 0; i < logits.size(); ++i) {
      const bool positive = static_cast<int32_t>(i % C) == labels[i / C];
      const Entry<double> entry = double_entry(exact[i], positive, options);
      EXPECT_TRUE(near(entry.loss, element_loss[i], kDoubleAbs, kDouble)) << "entry " << i;
      EXPECT_TRUE(near(entry.grad, element_grad[i], kDoubleAbs, kDouble)) << "entry " << i;
      const Entry<float> single = float_entry(logits[i], positive, options);
      EXPECT_TRUE(near(single.loss, element_loss[i], kFloatAbs, kFloat)) << "entry " << i;
      EXPECT_TRUE(near(single.grad, element_grad[i], kFloatAbs, kFloat)) << "entry " << i;
    }
    const Result result = run(logits, labels, weights, options, example["loss_weight"], example["avg_factor"]);
    EXPECT_TRUE(near(result.loss, number(expected["total"]), 0, kTotal));
    const auto grad = flatten(expected["grad"]);
    for (size_t i = 0; i < grad.size(); ++i)
      EXPECT_TRUE(near(result.grad[i], grad[i], kFloatAbs, kFloat)) << "entry " << i;
  }
}

TEST(SigmoidLoss, HeadExample) {
  const json example = read_vectors("sigmoid_loss")["classification_losses"];
  const auto logits = flatten<float>(example["inputs"]["logits"]);
  const auto labels = flatten<int32_t>(example["inputs"]["labels"]);
  const auto weights = flatten<float>(example["inputs"]["weights"]);
  for (const char* name : {"focal", "ce"}) {
    const AnySigmoidLoss options = name == std::string("ce") ? AnySigmoidLoss(CrossEntropy{}) : Focal{.alpha = 0.25};
    const Result result = run(logits, labels, weights, options, 1, 2 + 1.1920929e-07);
    const json& expected = example["expected"][name];
    EXPECT_TRUE(near(result.loss, expected["loss"], 0, 1e-6));
    const auto grad = flatten(expected["grad"]);
    for (size_t i = 0; i < grad.size(); ++i) EXPECT_TRUE(near(result.grad[i], grad[i], 1e-9, 1e-5)) << name << " " << i;
  }
}

TEST(SigmoidLoss, AtInitialisation) {
  const json example = read_vectors("sigmoid_loss")["initial_class_loss"];
  const size_t R = example["inputs"]["priors_fpn"], C = example["inputs"]["classes"];
  const std::vector<float> logits(R * C, static_cast<float>(-std::log(99.0)));
  const std::vector<int32_t> labels(R, static_cast<int32_t>(C));
  const std::vector<float> weights(R, 1);
  EXPECT_TRUE(near(run(logits, labels, weights, CrossEntropy{}).loss, example["expected"]["fpn_ce_sum"], 0, 1e-6));
  EXPECT_TRUE(
      near(run(logits, labels, weights, Focal{.alpha = 0.25}).loss, example["expected"]["fpn_focal_sum"], 0, 2e-6));
  EXPECT_TRUE(near(double_entry(-std::log(99.0), false, Focal{.alpha = 0.25}).loss,
                   example["expected"]["focal_element"], 0, 1e-5));
}

TEST(SigmoidLoss, WeightOfGradLibra) {
  const json rows =
      read_vectors("sigmoid_loss")["grad_libra_weight"];  // a loop over a part of a temporary would outlive it
  ASSERT_FALSE(rows.empty());
  for (const json& row : rows) {
    const double alpha = row["alpha"], g = row["g"], F = row["F"], d_F = row["dF"];
    const GradLibra both{.alpha_pos = alpha, .alpha_neg = alpha, .weight_grad = WeightGrad::full};
    const EntryPlace negative{0, 1};
    const float g32 = static_cast<float>(g);
    EXPECT_TRUE(near(both.weight<double>().psi(g, negative), F, 0, 1e-14)) << alpha << " " << g;
    EXPECT_TRUE(near(both.weight<float>().psi(g32, negative), F, 0, 4e-7)) << alpha << " " << g;
    EXPECT_TRUE(near(both.weight<double>().slope(g, 0, negative), g * d_F, 0, 1e-14)) << alpha << " " << g;
  }
}

TEST(SigmoidLoss, SweepOfGradLibra) {
  const json rows = read_vectors("sigmoid_loss")["grad_libra_sweep_alpha_0_8"];
  ASSERT_FALSE(rows.empty());
  for (const json& row : rows) {
    const double z = row["z"];
    const bool positive = row["y"] == 1;
    const Entry<double> detach = double_entry(z, positive, {});
    const Entry<double> full = double_entry(z, positive, GradLibra{.weight_grad = WeightGrad::full});
    EXPECT_TRUE(near(detach.loss, row["loss"], 0, kDouble)) << z;
    EXPECT_TRUE(near(full.loss, row["loss"], 0, kDouble)) << z;
    EXPECT_TRUE(near(detach.grad, row["grad_detach"], 0, kDouble)) << z;
    EXPECT_TRUE(near(full.grad, row["grad_full"], 0, kDouble)) << z;
  }
}

// alpha = 1 and a tiny g: F = g^3/6, where g - sin(g) has no digit left.
TEST(SigmoidLoss, TinyGradientNormAtAlphaOne) {
  const double z = std::log(1e-8 / (1 - 1e-8));  // g = 1e-8
  const GradLibra detach{.alpha_pos = 1, .alpha_neg = 1};
  const GradLibra full{.alpha_pos = 1, .alpha_neg = 1, .weight_grad = WeightGrad::full};
  EXPECT_TRUE(near(double_entry(z, false, detach).loss, 1e-32 / 6, 0, 1e-7));
  EXPECT_TRUE(near(double_entry(z, false, detach).grad, 1e-32 / 6, 0, 1e-7));
  EXPECT_TRUE(near(double_entry(-z, true, full).grad, -1e-32 * 2 / 3, 0, 1e-7));

  const float z32 = static_cast<float>(std::log(3e-4 / (1 - 3e-4)));
  const Entry<double> want_detach = double_entry(z32, false, detach), want_full = double_entry(z32, false, full);
  EXPECT_TRUE(near(want_full.grad, std::pow(3e-4, 4) * 2 / 3, 0, 2e-3));  // the closed form's next term is of order g
  EXPECT_TRUE(near(float_entry(z32, false, detach).loss, want_detach.loss, 0, kFloat));
  EXPECT_TRUE(near(float_entry(z32, false, full).grad, want_full.grad, 0, kFloat));
}

std::vector<AnySigmoidLoss> all_losses() {
  return {CrossEntropy{},
          Focal{.gamma = 0},
          Focal{.gamma = 0.5},
          Focal{.gamma = 2, .alpha = 0.25},
          Focal{.gamma = 3.5},
          {},
          GradLibra{.weight_grad = WeightGrad::full},
          GradLibra{.alpha_pos = 1, .alpha_neg = 1, .weight_grad = WeightGrad::full},
          GradLibra{.alpha_pos = 0, .alpha_neg = 0, .weight_grad = WeightGrad::full},
          GradLibra{.alpha_pos = kWeightOff, .alpha_neg = 0.4, .weight_grad = WeightGrad::full}};
}

TEST(SigmoidLoss, HugeLogitsStayLinear) {
  for (const AnySigmoidLoss& options : all_losses())
    for (const float z : {60.f, 88.f, 104.f, 300.f, 1e4f, 1e30f, 3e38f})
      for (const bool positive : {false, true}) {
        const float wrong = positive ? -z : z;
        const Entry<float> hard = float_entry(wrong, positive, options);
        const Entry<float> easy = float_entry(-wrong, positive, options);
        const Entry<double> limit = double_entry(positive ? -1e4 : 1e4, positive, options);  // g is 1 there
        EXPECT_TRUE(near(hard.loss, limit.loss / 1e4 * static_cast<double>(z), 0, kFloat)) << z;
        EXPECT_TRUE(near(hard.grad, limit.grad, 0, kFloat)) << z;
        EXPECT_TRUE(near(easy.loss, 0, 1e-20, 0)) << z;  // exp underflows from about 88 on
        EXPECT_TRUE(near(easy.grad, 0, 1e-20, 0)) << z;
      }
}

TEST(SigmoidLoss, InfiniteLogits) {
  for (const AnySigmoidLoss& options : all_losses())
    for (const bool positive : {false, true}) {
      const float wrong = positive ? -kInfinity : kInfinity;
      const Entry<float> hard = float_entry(wrong, positive, options);
      const Entry<float> easy = float_entry(-wrong, positive, options);
      EXPECT_EQ(hard.loss, kInfinity);
      EXPECT_TRUE(near(hard.grad, double_entry(positive ? -1e4 : 1e4, positive, options).grad, 0, kFloat));
      EXPECT_EQ(easy.loss, 0);
      EXPECT_EQ(easy.grad, 0);
      EXPECT_TRUE(std::isnan(float_entry(kNaN, positive, options).loss));
      EXPECT_TRUE(std::isnan(float_entry(kNaN, positive, options).grad));
    }
}

TEST(SigmoidLoss, FloatAgreesWithDouble) {
  std::mt19937 rng(7);
  std::uniform_real_distribution<float> logit(-30, 30);
  for (const AnySigmoidLoss& options : all_losses())
    for (int i = 0; i < 2000; ++i) {
      const float z = logit(rng);
      const bool positive = i % 2 == 0;
      const Entry<float> got = float_entry(z, positive, options);
      const Entry<double> want = double_entry(static_cast<double>(z), positive, options);
      ASSERT_TRUE(near(got.loss, want.loss, kFloatAbs, kFloat)) << z << " loss " << options.index();
      ASSERT_TRUE(near(got.grad, want.grad, kFloatAbs, kFloat)) << z << " loss " << options.index();
    }
}

TEST(SigmoidLoss, GammaZeroIsCrossEntropyBitForBit) {
  for (const float z : {-200.f, -30.f, -1.5f, 0.f, 0.3f, 17.f, 1e4f, kInfinity})
    for (const bool positive : {false, true}) {
      const auto focal = float_entry(z, positive, Focal{.gamma = 0});
      const auto ce = float_entry(z, positive, CrossEntropy{});
      EXPECT_EQ(focal.loss, ce.loss) << z;
      EXPECT_EQ(focal.grad, ce.grad) << z;
    }
}

// The differentiated losses against central differences; the detached weight against its own definition, g * F(g).
TEST(SigmoidLoss, FiniteDifferences) {
  for (const AnySigmoidLoss& options : all_losses()) {
    const bool differentiated =
        !std::holds_alternative<GradLibra>(options) || std::get<GradLibra>(options).weight_grad == WeightGrad::full;
    for (double z = -8; z <= 8; z += 0.37)
      for (const bool positive : {false, true}) {
        const double grad = double_entry(z, positive, options).grad, h = 1e-5;
        if (differentiated) {
          const double slope =
              (double_entry(z + h, positive, options).loss - double_entry(z - h, positive, options).loss) / (2 * h);
          EXPECT_TRUE(near(grad, slope, 1e-9, 1e-6)) << z;
        } else {
          const double g = 1 / (1 + std::exp(positive ? z : -z));
          EXPECT_TRUE(near(std::abs(grad), g * (g - 0.8 * std::sin(g)), 1e-14, 1e-10)) << z;
        }
      }
  }
}

TEST(SigmoidLoss, IgnoredRowsAndNaN) {
  // Rows: valid, weight 0 with NaN, label -1 with infinity and weight 1, background with a half weight.
  const std::vector<float> logits = {1, -2, kNaN, kInfinity, -kInfinity, kNaN, 0.5f, -0.25f};
  const Result result = run(logits, {0, 1, -1, 2}, {1, 0, 1, 0.5f}, {}, 3, 2);
  double want = 0;
  want += double_entry(1, true, {}).loss + double_entry(-2, false, {}).loss;
  want += 0.5 * (double_entry(0.5, false, {}).loss + double_entry(-0.25, false, {}).loss);
  EXPECT_TRUE(near(result.loss, 1.5 * want, 0, kFloat));
  for (const size_t i : {2u, 3u, 4u, 5u}) EXPECT_EQ(result.grad[i], 0) << i;
  EXPECT_TRUE(near(result.grad[7], 0.75 * double_entry(-0.25, false, {}).grad, 0, kFloat));

  const Result bad = run({1, kNaN, 0.5f, 2}, {0, 2}, {1, 1}, {});
  EXPECT_TRUE(std::isnan(bad.loss));
  EXPECT_TRUE(std::isnan(bad.grad[1]));
  for (const size_t i : {0u, 2u, 3u}) EXPECT_TRUE(std::isfinite(bad.grad[i])) << i;
}

TEST(SigmoidLoss, NoRows) { EXPECT_EQ(run({}, {}, {}, {}).loss, 0); }

TEST(SigmoidLoss, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(3);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(777 * 7), weights(777);
  std::vector<int32_t> labels(777);
  for (float& z : logits) z = normal(rng);
  for (float& w : weights) w = static_cast<float>(rng() % 3);
  for (int32_t& l : labels) l = static_cast<int32_t>(rng() % 9) - 1;
  const Result one = run(logits, labels, weights, {}, 1, 13, 1);
  EXPECT_GT(one.loss, 0);
  for (const int threads : {2, 3, 5}) {
    const Result many = run(logits, labels, weights, {}, 1, 13, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

TEST(SigmoidLoss, RefusesWrongInput) {
  EXPECT_THROW(run({1, 2}, {0}, {1}, Focal{.gamma = -1}), std::invalid_argument);
  EXPECT_THROW(run({1, 2}, {0}, {1}, Focal{.alpha = 1.5}), std::invalid_argument);
  EXPECT_THROW(run({1, 2}, {0}, {1}, GradLibra{.alpha_pos = 1.1}), std::invalid_argument);
  EXPECT_THROW(run({1, 2}, {0}, {1}, GradLibra{.alpha_neg = -0.5}), std::invalid_argument);
}

TEST(Sigmoid, ValuesAndLimits) {
  Cpu cpu(2);
  const std::vector<float> logits = {0, 2, -2, 1e4f, -1e4f, kInfinity, -kInfinity, kNaN, -50};
  std::vector<float> scores(9, kNaN);
  sigmoid(cpu, view(logits, {3, 3}), view(scores, {3, 3}));
  const std::vector<double> want = {0.5, 0.8807970779778823,    0.11920292202211755, 1, 0, 1, 0,
                                    NAN, 1.9287498479639178e-22};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(near(scores[i], want[i], 0, 3e-7)) << i;
}

}  // namespace
}  // namespace gradlibra::kernels
