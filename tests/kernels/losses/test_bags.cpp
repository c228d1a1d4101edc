// SPDX-License-Identifier: MIT
// Balanced group softmax on the host: worked examples with 2 and 3 groups, its definition in double, edges.
#include "kernels/losses/bags.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/kernels/losses/softmax_losses.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

BagsLayout layout_of(const BagsTables& t) {
  return {view(t.group_of, {t.C()}), view(t.channel_of, {t.C()}), view(t.first, {t.G() + 2})};
}

SoftmaxResult run(const Floats& logits, const Labels& labels, const Floats& weights, const std::vector<uint8_t>& sample,
                  const BagsTables& tables, const Doubles& normalizers, double loss_weight = 1, int threads = 2) {
  Cpu cpu(threads);
  const auto R = static_cast<int64_t>(labels.size());
  SoftmaxResult result;
  result.grad.assign(logits.size(), kNaN);
  Doubles loss{NAN}, workspace(static_cast<size_t>(bags_loss_workspace(R)), NAN);
  bags_loss(cpu, view(logits, {R, tables.channels()}), view(labels, {R}), view(weights, {R}),
            view(sample, {R, tables.G()}), layout_of(tables),
            {loss_weight, view(normalizers, {tables.G() + 1}), view(loss, {1}),
             view(result.grad, {R, tables.channels()}), view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

Floats scores_of(const Floats& logits, const BagsTables& tables) {
  Cpu cpu(2);
  const int64_t R = static_cast<int64_t>(logits.size()) / tables.channels();
  Floats scores(static_cast<size_t>(R * tables.C()), kNaN);
  bags_scores(cpu, view(logits, {R, tables.channels()}), layout_of(tables), view(scores, {R, tables.C()}));
  return scores;
}

TEST(Bags, WorkedExamples) {
  const json examples = read_vectors("long_tail_losses")["bags"];
  ASSERT_EQ(examples.size(), 2u);
  for (const json& example : examples) {
    SCOPED_TRACE(example["id"].get<std::string>());
    const json& params = example["params"];
    const BagsTables tables(params["groups"].get<std::vector<Labels>>());
    EXPECT_EQ(tables.channels(), params["channels"].get<int64_t>());
    EXPECT_EQ(layout_of(tables).channels(), tables.channels());
    for (size_t g = 0; g < params["slices"].size(); ++g)
      EXPECT_EQ(tables.first[g], params["slices"][g][0].get<int32_t>());
    for (const json& iteration : example["iterations"]) {
      const auto logits = flatten<float>(iteration["logits"]), weights = flatten<float>(iteration["weights"]);
      const auto labels = flatten<int32_t>(iteration["labels"]);
      std::vector<uint8_t> sample;
      for (size_t i = 0; i < labels.size(); ++i)
        for (size_t g = 1; g < iteration["sample_mask"].size(); ++g)
          sample.push_back(iteration["sample_mask"][g][i].get<uint8_t>());
      for (const char* normalizer : {"expected_num_pos_normaliser", "expected_rows_normaliser"}) {
        const json& expected = iteration[normalizer];
        const SoftmaxResult result =
            run(logits, labels, weights, sample, tables, flatten(expected["group_avg_factor"]));
        EXPECT_TRUE(near(result.loss, number(expected["total"]), 0, 1e-5));
        const Doubles grad = flatten(expected["grad"]);
        // A 0 of the example is 1 - P where P rounds to 1 in double; here it is the sum of the other P.
        for (size_t j = 0; j < grad.size(); ++j)
          EXPECT_TRUE(near(result.grad[j], grad[j], grad[j] == 0 ? 1e-16 : 1e-30, 3e-6)) << "entry " << j;
        // Each group alone, the others divided by so much that nothing of them is left; then each of its rows.
        for (size_t g = 0; g < expected["group_total"].size(); ++g) {
          Doubles normalizers(expected["group_total"].size(), 1e300);
          normalizers[g] = expected["group_avg_factor"][g];
          EXPECT_TRUE(near(run(logits, labels, weights, sample, tables, normalizers).loss, expected["group_total"][g],
                           1e-30, 1e-5))
              << g;
          normalizers[g] = 1;
          for (size_t i = 0; i < labels.size(); ++i) {
            Floats alone(labels.size(), 0);
            alone[i] = weights[i];
            EXPECT_TRUE(near(run(logits, labels, alone, sample, tables, normalizers).loss,
                             expected["group_row_loss"][g][i], 1e-16, 1e-5))
                << g << ", row " << i;
          }
        }
      }
    }
    const json& inference = example["inference"];
    expect_near(scores_of(flatten<float>(inference["logits"]), tables), flatten(inference["scores"]), 1e-30, 3e-6);
  }
}

// One row in double, from plain exponentials.
double defined(const Doubles& z, int label, const std::vector<uint8_t>& sample, const BagsTables& t,
               const Doubles& normalizers) {
  double loss = 0;
  for (int64_t g = 0; g <= t.G(); ++g) {
    const auto group = static_cast<size_t>(g);
    if (g > 0 && sample[group - 1] == 0) continue;
    double sum = 0;
    for (int32_t j = t.first[group]; j < t.first[group + 1]; ++j) sum += std::exp(z[static_cast<size_t>(j)]);
    int32_t target = t.first[group];
    if (g == 0 && label < t.C()) target = 1;
    if (g > 0 && label < t.C() && t.group_of[static_cast<size_t>(label)] == g)
      target = t.channel_of[static_cast<size_t>(label)];
    loss += -std::log(std::exp(z[static_cast<size_t>(target)]) / sum) / normalizers[group];
  }
  return loss;
}

TEST(Bags, AgreesWithItsDefinitionAndDifferences) {
  std::mt19937 rng(2);
  for (const auto& groups : std::vector<std::vector<Labels>>{{{0}}, {{1, 2}, {0}}, {{0, 4}, {2}, {1, 3, 5}}}) {
    const BagsTables tables(groups);
    for (int32_t label = 0; label <= tables.C(); ++label) {
      const Floats logits = random_floats(tables.channels(), rng, -4, 4);
      std::vector<uint8_t> sample;
      Doubles normalizers{3};
      for (int64_t g = 0; g < tables.G(); ++g) {
        sample.push_back(rng() % 3 > 0);
        normalizers.push_back(1 + static_cast<double>(rng() % 5));
      }
      const SoftmaxResult result = run(logits, {label}, {0.5f}, sample, tables, normalizers, 2);
      Doubles z(logits.begin(), logits.end());
      EXPECT_TRUE(near(result.loss, defined(z, label, sample, tables, normalizers), 1e-12, 1e-6));
      for (size_t j = 0; j < z.size(); ++j) {
        const double h = 1e-6, at = z[j];
        z[j] = at + h;
        const double up = defined(z, label, sample, tables, normalizers);
        z[j] = at - h;
        const double down = defined(z, label, sample, tables, normalizers);
        z[j] = at;
        EXPECT_TRUE(near(result.grad[j], (up - down) / (2 * h), 1e-8, 1e-5)) << j;
      }
    }
  }
}

const BagsTables kTwo({{1}, {0}});  // channels: bg, fg, others, class 1, others, class 0

TEST(Bags, RowsAndGroupsThatTakeNoPart) {
  // A background row in group 1 alone beside group 0; an ignored row by weight, one by label.
  const Floats logits{0, 0, 1, 1, kNaN, kInfinity, kNaN, kNaN, 0, 0, 0, 0, kInfinity, 1, 1, 1, 1, 1};
  const SoftmaxResult result = run(logits, {2, 0, -1}, {1, 0, 1}, {1, 0, 1, 1, 1, 1}, kTwo, {1, 2, 1});
  EXPECT_NEAR(result.loss, std::log(2.0) * 1.5, 1e-12);
  EXPECT_EQ(result.grad, (Floats{-0.5f, 0.5f, -0.25f, 0.25f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(run({}, {}, {}, {}, kTwo, {1, 1, 1}).loss, 0);
}

TEST(Bags, ExtremeLogits) {
  const SoftmaxResult wrong = run({1e4f, -1e4f, 1e4f, 0, -3e4f, 3e4f}, {1}, {1}, {1, 0}, kTwo, {1, 1, 1});
  EXPECT_EQ(wrong.loss, 2e4 + 1e4);
  EXPECT_EQ(wrong.grad, (Floats{1, -1, 1, -1, 0, 0}));
  // A row that is right by far keeps the digits of its small loss.
  EXPECT_TRUE(near(run({-20, 20, 0, 300, 0, 0}, {1}, {1}, {1, 0}, kTwo, {1, 1, 1}).loss, std::exp(-40.0), 0, 1e-12));
  const SoftmaxResult bad = run({0, 0, kNaN, 1, 2, 3}, {2}, {1}, {1, 1}, kTwo, {1, 1, 1});
  EXPECT_TRUE(std::isnan(bad.loss));
  for (size_t j = 0; j < 6; ++j) EXPECT_EQ(std::isnan(bad.grad[j]), j == 2 || j == 3) << j;
}

TEST(Bags, ScoresByHand) {
  // Foreground 3/4; class 1 has 1/2 of its group, class 0 has 4/5 of its.
  const Floats scores = scores_of({0, std::log(3.0f), 2, 2, 0, std::log(4.0f)}, kTwo);
  EXPECT_NEAR(scores[1], 0.375, 1e-6);
  EXPECT_NEAR(scores[0], 0.6, 1e-6);
}

TEST(Bags, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(3);
  const BagsTables tables({{0, 4}, {2}, {1, 3, 5}});
  const Floats logits = random_floats(777 * tables.channels(), rng, -5, 5);
  Labels labels;
  std::vector<uint8_t> sample;
  for (int i = 0; i < 777; ++i) labels.push_back(static_cast<int32_t>(rng() % 8) - 1);
  for (int i = 0; i < 777 * 3; ++i) sample.push_back(rng() % 2);
  const SoftmaxResult one = run(logits, labels, Floats(777, 1), sample, tables, {13, 2, 3, 4}, 1, 1);
  for (const int threads : {2, 3, 5}) {
    const SoftmaxResult many = run(logits, labels, Floats(777, 1), sample, tables, {13, 2, 3, 4}, 1, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

TEST(Bags, RefusesWrongShapes) {
  Cpu cpu(1);
  Floats logits(12, 0), grad(12), scores(4);
  const BagsLayout layout = layout_of(kTwo);
  const Labels labels{0, 1};
  const Floats weights{1, 1};
  const std::vector<uint8_t> sample(4, 1);
  const Doubles normalizers{1, 1, 1};
  Doubles loss(1), workspace(1);
  const auto call = [&](int64_t channels, int64_t groups, int64_t rows) {
    bags_loss(
        cpu, {logits.data(), {2, channels}}, {labels.data(), {rows}}, {weights.data(), {2}},
        {sample.data(), {2, groups}}, layout,
        {1, {normalizers.data(), {3}}, {loss.data(), {1}}, {grad.data(), {2, channels}}, {workspace.data(), {1}}});
  };
  EXPECT_NO_THROW(call(6, 2, 2));
  EXPECT_THROW(call(5, 2, 2), std::invalid_argument);
  EXPECT_THROW(call(6, 1, 2), std::invalid_argument);
  EXPECT_THROW(call(6, 2, 1), std::invalid_argument);
  EXPECT_THROW(bags_scores(cpu, {logits.data(), {2, 6}}, layout, {scores.data(), {2, 1}}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
