// SPDX-License-Identifier: MIT
// The losses that look at the classes' frequencies, through what a head and a training step call: worked examples with
// the sums over two ranks, state, normalizers, what happens without annotations.
#include <gtest/gtest.h>

#include <cmath>

#include "models/config.h"
#include "models/losses/classification_loss.h"
#include "tests/kernels/losses/softmax_losses.h"
#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;

ClassInfo classes_with(const std::vector<int64_t>& instances) {
  ClassInfo classes = unknown_classes(static_cast<int>(instances.size()));
  classes.instances = instances;
  return classes;
}

// One rank's loss, called as a head calls it.
struct Rank {
  Context& context;
  std::unique_ptr<ClassificationLoss> loss;
  int rank = 0;
  Node node;
  Tensor labels, weights, sums;

  Rank(Context& c, const LossConfig& config, const ClassInfo& classes, int r = 0)
      : context(c), loss(make_classification_loss(c, config, classes)), rank(r) {}
  [[nodiscard]] Rows rows() { return {Var(&node), labels, weights, rank}; }
  // A batch; what its rank gives to the sums before the loss.
  Doubles before(const Floats& z, const Labels& l, const Floats& w) {
    const auto R = static_cast<int64_t>(l.size());
    node.value = context.upload<float>(z, {1, R, static_cast<int64_t>(loss->channels())});
    node.requires_grad = true;
    node.grad_written = false;
    labels = context.upload<int32_t>(l, {1, R});
    weights = context.upload<float>(w, {1, R});
    Tape tape(context);
    sums = loss->before(tape, rows());
    return sums.empty() ? Doubles{} : context.download<double>(sums);
  }
  SoftmaxResult step(const Doubles& summed, int ranks, double normalizer) {
    Tape tape(context);
    if (!summed.empty()) context.upload<double>(summed, sums);
    const Tensor A = context.upload<double>({&normalizer, 1}, {1});
    const Tensor value = loss->loss(tape, rows(), A, {sums, ranks});
    return {context.download<double>(value)[0], context.download<float>(node.grad)};
  }
  Doubles increments() {
    const Tensor gained = loss->increments();
    return gained.empty() ? Doubles{} : context.download<double>(gained);
  }
  void commit(const Doubles& summed, float ok = 1) {
    loss->commit(context, {summed.data(), {static_cast<int64_t>(summed.size())}}, {&ok, {1}});
  }
  [[nodiscard]] Doubles state(size_t i) { return context.download<double>(*loss->state().at(i).values); }
};

Doubles sum_of(const Doubles& a, const Doubles& b) {
  Doubles sum = a;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += b.at(i);
  return sum;
}

class LongTailLosses : public ::testing::Test {
 protected:
  Context context{2};
  const json vectors = read_vectors("long_tail_losses");
};

TEST_F(LongTailLosses, ClassBalancedWeights) {
  ASSERT_EQ(vectors["cbl_weights"].size(), 3u);
  for (const json& example : vectors["cbl_weights"]) {
    const auto counts = example["counts"].get<std::vector<int64_t>>();
    expect_near(class_balanced_weights(counts, example["beta"]), flatten(example["class_weights"]), 0, 1e-12);
    if (example.contains("effective_number"))
      expect_near(effective_numbers(counts, example["beta"]), flatten(example["effective_number"]), 0, 1e-12);
  }
  EXPECT_EQ(class_balanced_weights(std::vector<int64_t>{0, 0}, 0.9), (Doubles{1, 1}));
  // Where 1 - beta^n has hardly a digit left.
  EXPECT_TRUE(near(effective_numbers(std::vector<int64_t>{3}, 1 - 1e-12)[0], 3, 0, 1e-11));
}

TEST_F(LongTailLosses, ClassBalancedByItsConfiguration) {
  for (const json& example : vectors["sigmoid_losses"]) {
    SCOPED_TRACE(example["id"].get<std::string>());
    const json& params = example["params"];
    LossConfig config{.type = "class_balanced", .weight = example["loss_weight"]};
    config.class_balanced = {.beta = params["beta"],
                             .base = params["base"] == "focal" ? "focal" : "cross_entropy",
                             .gamma = params.value("gamma", 2.0),
                             .apply = params["weight_mode"],
                             .background_weight = params["background_weight"]};
    Rank rank(context, config, classes_with(vectors["cbl_weights"][0]["counts"]));
    EXPECT_TRUE(rank.before(flatten<float>(example["logits"]), flatten<int32_t>(example["labels"]),
                            flatten<float>(example["weights"]))
                    .empty());
    const SoftmaxResult result = rank.step({}, 1, example["avg_factor"]);
    EXPECT_TRUE(near(result.loss, example["expected"]["total"], 0, 1e-5));
    expect_near(result.grad, flatten(example["expected"]["grad"]), 1e-30, 3e-6);
  }
}

TEST_F(LongTailLosses, EqlV2OnTwoRanks) {
  const json& example = vectors["eqlv2"];
  Rank first(context, {.type = "eqlv2"}, unknown_classes(4)), second(context, {.type = "eqlv2"}, unknown_classes(4), 1);
  for (const json& iteration : example["iterations"]) {
    const json& expected = iteration["expected"];
    Doubles gained(8, 0);
    for (Rank* rank : {&first, &second}) {
      const json& input = iteration["inputs"][static_cast<size_t>(rank->rank)];
      const json& want = expected["per_rank"][static_cast<size_t>(rank->rank)];
      (void)rank->before(flatten<float>(input["logits"]), flatten<int32_t>(input["labels"]),
                         flatten<float>(input["weights"]));
      const SoftmaxResult result = rank->step({}, 2, expected["avg_factor"]);
      EXPECT_TRUE(near(result.loss, want["total"], 0, 1e-5));
      expect_near(result.grad, flatten(want["grad"]), 1e-30, 3e-6);
      gained = sum_of(gained, rank->increments());
    }
    for (Rank* rank : {&first, &second}) {
      rank->commit({NAN, 1, 1, 1, 1, 1, 1, 1}, NAN);  // a step without update
      rank->commit(gained);
      const json& after = expected["state_after"];
      const Doubles sums = rank->state(0);
      expect_near(Doubles(sums.begin(), sums.begin() + 4), flatten(after["pos_grad"]), 0, 3e-6);
      expect_near(Doubles(sums.begin() + 4, sums.end()), flatten(after["neg_grad"]), 0, 3e-6);
      expect_near(rank->state(1), flatten(after["ratio"]), 0, 3e-6);
    }
    EXPECT_EQ(first.state(0), second.state(0));
  }
}

TEST_F(LongTailLosses, SeesawOnTwoRanks) {
  const json& example = vectors["seesaw"];
  Rank first(context, {.type = "seesaw"}, unknown_classes(4)),
      second(context, {.type = "seesaw"}, unknown_classes(4), 1);
  const auto channels = [](const json& z, const json& o) {
    Floats all;
    for (size_t i = 0; i < z.size(); ++i) {
      for (const float v : flatten<float>(z[i])) all.push_back(v);
      all.push_back(static_cast<float>(number(o[i])));
    }
    return all;
  };
  for (const json& iteration : example["iterations"]) {
    const json& expected = iteration["expected"];
    Doubles counts(5, 0);
    for (Rank* rank : {&first, &second}) {
      const json& input = iteration["inputs"][static_cast<size_t>(rank->rank)];
      counts = sum_of(counts, rank->before(channels(input["class_logits"], input["objectness_logit"]),
                                           flatten<int32_t>(input["labels"]), flatten<float>(input["weights"])));
    }
    EXPECT_EQ(counts, flatten(expected["counts_increment"]));
    for (Rank* rank : {&first, &second}) {
      const json& want = expected["per_rank"][static_cast<size_t>(rank->rank)];
      const Doubles counted = rank->state(0);
      const SoftmaxResult result = rank->step(counts, 2, expected["avg_factor"]);
      EXPECT_TRUE(near(result.loss, number(want["total_class"]) + number(want["total_objectness"]), 0, 1e-5));
      expect_near(result.grad, Floats(channels(want["grad_class"], want["grad_objectness"])), 1e-30, 3e-6);
      EXPECT_TRUE(rank->increments().empty()) << "they were summed before the loss";
      EXPECT_EQ(rank->state(0), counted) << "not before the update";
      rank->commit({}, NAN);
      EXPECT_EQ(rank->state(0), counted);
      rank->commit({});
      EXPECT_EQ(rank->state(0), flatten(expected["counts_used"]));
    }
  }
  Tape tape(context, Tape::Mode::inference);
  const json& inference = example["inference"];
  const Var logits = tape.constant(
      context.upload<float>(channels(inference["class_logits"], inference["objectness_logit"]), {1, 2, 5}));
  const Tensor scores = first.loss->scores(tape, logits);
  EXPECT_EQ(scores.shape(), (Shape{1, 2, 4}));
  expect_near(context.download<float>(scores), flatten(inference["scores"]), 1e-30, 3e-6);
}

TEST_F(LongTailLosses, BagsWithTwoAndThreeGroups) {
  for (const json& example : vectors["bags"]) {
    const json& params = example["params"];
    for (const bool shared : {true, false}) {
      SCOPED_TRACE(example["id"].get<std::string>() + (shared ? "" : " by rows"));
      LossConfig config{.type = "bags"};
      config.bags = {.edges = params["edges"].get<std::vector<int>>(),
                     .beta = params["beta"],
                     .seed = params["seed"],
                     .foreground_normalizer = shared ? "shared" : "rows"};
      Rank rank(context, config, classes_with(params["counts"]));
      EXPECT_EQ(rank.loss->channels(), params["channels"].get<int>());
      for (const json& iteration : example["iterations"]) {
        EXPECT_EQ(rank.state(0), (Doubles{params["seed"], iteration["iteration"]}));
        const json& expected = iteration[shared ? "expected_num_pos_normaliser" : "expected_rows_normaliser"];
        const Doubles sums = rank.before(flatten<float>(iteration["logits"]), flatten<int32_t>(iteration["labels"]),
                                         flatten<float>(iteration["weights"]));
        const double A = iteration["expected_num_pos_normaliser"]["group_avg_factor"][0];
        const SoftmaxResult result = rank.step(sums, 1, A);
        EXPECT_TRUE(near(result.loss, number(expected["total"]), 0, 1e-5));
        const Doubles grad = flatten(expected["grad"]);
        for (size_t j = 0; j < grad.size(); ++j)
          EXPECT_TRUE(near(result.grad[j], grad[j], grad[j] == 0 ? 1e-16 : 1e-30, 3e-6)) << "entry " << j;
        EXPECT_TRUE(rank.increments().empty());
        rank.commit({}, NAN);
        rank.commit({});
      }
      Tape tape(context, Tape::Mode::inference);
      const json& inference = example["inference"];
      const int64_t rows = static_cast<int64_t>(inference["logits"].size());
      const Var logits =
          tape.constant(context.upload<float>(flatten<float>(inference["logits"]), {1, rows, rank.loss->channels()}));
      expect_near(context.download<float>(rank.loss->scores(tape, logits)), flatten(inference["scores"]), 1e-30, 3e-6);
    }
  }
}

TEST_F(LongTailLosses, BagsGroups) {
  using Groups = std::vector<std::vector<int>>;
  const std::vector<int64_t> counts{20000, 7000, 0, 10000, 4999, 5000};
  const std::vector<int> two{10000}, three{5000, 10000};
  EXPECT_EQ(bags_groups(counts, two), (Groups{{1, 2, 4, 5}, {0, 3}}));
  EXPECT_EQ(bags_groups(counts, three), (Groups{{2, 4}, {1, 5}, {0, 3}}));
  EXPECT_EQ(bags_groups(std::vector<int64_t>{20000, 3}, three), (Groups{{1}, {0}})) << "an empty group has no place";
  // 14 and 15 channels for ten classes.
  std::vector<int64_t> ten{30000, 9000, 8000, 1, 2, 3, 4, 5, 6, 7};
  LossConfig config{.type = "bags"};
  EXPECT_EQ(make_classification_loss(context, config, classes_with(ten))->channels(), 15);
  config.bags.edges = {10000};
  EXPECT_EQ(make_classification_loss(context, config, classes_with(ten))->channels(), 14);
  const Rank rank(context, config, classes_with({2, 20000, 1}));
  EXPECT_EQ(context.download<double>(*rank.loss->state().at(1).values), (Doubles{1, 2, 1}));
  EXPECT_TRUE(rank.loss->state().at(1).fixed);
}

TEST_F(LongTailLosses, RanksDrawOtherRows) {
  LossConfig config{.type = "bags"};
  config.bags.beta = 4;
  Labels labels(100, 2);
  labels[5] = 0;
  const auto first_step = [&](int r) {
    Rank rank(context, config, classes_with({1, 20000}), r);
    const Doubles sums = rank.before(Floats(600, 0), labels, Floats(100, 1));
    EXPECT_EQ(sums, (Doubles{100, 5, 0}));
    return rank.step(sums, 1, 1).grad;
  };
  EXPECT_EQ(first_step(0), first_step(0));
  EXPECT_NE(first_step(0), first_step(1));
}

TEST_F(LongTailLosses, ChannelsAndBiases) {
  const float b = -4.5951199f;
  const auto bias = [&](const LossConfig& config) {
    const auto loss = make_classification_loss(context, config, classes_with({5, 20000}));
    EXPECT_EQ(loss->bias_init().size(), static_cast<size_t>(loss->channels()));
    return loss->bias_init();
  };
  EXPECT_EQ(bias({.type = "class_balanced"}), (Floats{b, b}));
  EXPECT_EQ(bias({.type = "eqlv2"}), (Floats{b, b}));
  LossConfig published{.type = "eqlv2"};
  published.eqlv2.objectness_channel = true;
  EXPECT_EQ(bias(published), (Floats{b, b, -b}));
  EXPECT_EQ(bias({.type = "seesaw"}), (Floats{0, 0, b}));
  EXPECT_EQ(bias({.type = "bags"}), (Floats{0, b, 0, 0, 0, 0}));
}

// The channel of the background: a target of its own, weights of 1, no share in the sums; it lowers the scores.
TEST_F(LongTailLosses, EqlV2AsPublished) {
  LossConfig config{.type = "eqlv2"};
  config.eqlv2.objectness_channel = true;
  Rank rank(context, config, unknown_classes(1));
  (void)rank.before({0, 0, 0, 0}, {0, 1}, {1, 1});
  const SoftmaxResult result = rank.step({}, 1, 1);
  EXPECT_NEAR(result.loss, 4 * std::log(2.0), 1e-6);
  EXPECT_EQ(result.grad, (Floats{-0.5f, 0.5f, 0.5f, -0.5f}));
  EXPECT_EQ(rank.increments(), (Doubles{0.5, 0.5}));
  rank.commit({0, 0.5});  // negatives alone so far
  (void)rank.before({0, 0, 0, 0}, {0, 1}, {1, 1});
  const SoftmaxResult next = rank.step({}, 1, 1);
  EXPECT_NEAR(next.grad[0], -0.5 * 4.9997291, 1e-5);
  EXPECT_NEAR(next.grad[2], 0.5 * 6.7724e-5, 1e-9);
  EXPECT_EQ(next.grad[1], 0.5f);
  EXPECT_EQ(next.grad[3], -0.5f);
  Tape tape(context, Tape::Mode::inference);
  const Tensor scores = rank.loss->scores(tape, tape.constant(context.zeros({1, 3, 2})));
  EXPECT_EQ(scores.shape(), (Shape{1, 3, 1}));
  EXPECT_EQ(context.download<float>(scores), Floats(3, 0.25f));
}

// Ignored rows of NaN, and no positive at all: finite, the negative part alone.
TEST_F(LongTailLosses, WithoutPositives) {
  for (const char* type : {"class_balanced", "eqlv2", "seesaw", "bags"}) {
    SCOPED_TRACE(type);
    Rank rank(context, {.type = type}, classes_with({5, 20000}));
    const auto K = static_cast<size_t>(rank.loss->channels());
    Floats logits(3 * K, -1);
    std::fill_n(logits.begin() + static_cast<int64_t>(K), K, kNaN);
    const Doubles sums = rank.before(logits, {2, 0, 2}, {1, 0, 1});
    const SoftmaxResult result = rank.step(sums, 1, 1);
    EXPECT_GT(result.loss, 0);
    EXPECT_TRUE(std::isfinite(result.loss));
    for (size_t j = 0; j < K; ++j) EXPECT_EQ(result.grad[K + j], 0) << j;
    for (const double v : rank.increments()) EXPECT_TRUE(std::isfinite(v));
    const SoftmaxResult none = rank.step(rank.before(logits, {-1, -1, -1}, {1, 1, 1}), 1, 1);
    EXPECT_EQ(none.loss, 0);
    EXPECT_EQ(none.grad, Floats(3 * K, 0));
  }
}

// model.loss.weight multiplies value and gradient of any loss, and nothing that it counts.
TEST_F(LongTailLosses, AnyLossTimesItsWeight) {
  for (const std::string& type : loss_kinds()) {
    SCOPED_TRACE(type);
    const ClassInfo classes = classes_with({5, 20000, 300});
    Rank once(context, {.type = type}, classes), thrice(context, {.type = type, .weight = 3}, classes);
    const Labels labels{0, 3, 2, 3, 1, 3};
    const Floats logits = filler("logits", static_cast<int64_t>(labels.size()) * once.loss->channels(), -2, 2);
    for (int step = 0; step < 2; ++step) {  // the second with what the first has counted
      const Doubles sums = once.before(logits, labels, {1, 1, 1, 0, 1, 1});
      EXPECT_EQ(thrice.before(logits, labels, {1, 1, 1, 0, 1, 1}), sums);
      const SoftmaxResult one = once.step(sums, 1, 2), three = thrice.step(sums, 1, 2);
      ASSERT_GT(one.loss, 0);
      EXPECT_TRUE(near(three.loss, 3 * one.loss, 0, 1e-6));
      Doubles want;
      for (const float g : one.grad) want.push_back(3.0 * g);
      expect_near(three.grad, want, 1e-30, 1e-6);
      const Doubles gained = once.increments();
      EXPECT_EQ(thrice.increments(), gained);
      for (Rank* rank : {&once, &thrice}) rank->commit(gained);
    }
  }
}

// Detection, costs and benchmarks have no annotations.
TEST_F(LongTailLosses, WithoutAnnotations) {
  for (const char* type : {"class_balanced", "bags"}) {
    Rank rank(context, {.type = type}, unknown_classes(5));
    Tape shapes(context, Tape::Mode::shapes);
    EXPECT_TRUE(rank.loss->scores(shapes, shapes.make({1, 4, rank.loss->channels()}, false)).empty());
    const auto use = [&] {
      (void)rank.step(rank.before(Floats(static_cast<size_t>(rank.loss->channels()), 0), {0}, {1}), 1, 1);
    };
    try {
      use();
      ADD_FAILURE() << type;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find(std::string("model.loss.type=") + type), std::string::npos);
    }
  }
  EXPECT_EQ(make_classification_loss(context, {.type = "bags"}, unknown_classes(5))->channels(), 2 + 5 + 3);
  EXPECT_EQ(make_classification_loss(context, {.type = "bags"}, unknown_classes(1))->channels(), 2 + 1 + 1);
  Tape tape(context, Tape::Mode::inference);
  const Var logits = tape.constant(context.zeros({1, 2, 10}));
  const auto bags = make_classification_loss(context, {.type = "bags"}, unknown_classes(5));
  EXPECT_THROW((void)bags->scores(tape, logits), std::invalid_argument);
}

TEST_F(LongTailLosses, ErrorsNameTheKey) {
  const auto expect_names = [&](const LossConfig& config, const std::string& key) {
    try {
      (void)make_classification_loss(context, config, classes_with({5, 20000}));
      ADD_FAILURE() << key;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("model.loss." + key), std::string::npos) << error.what();
    }
  };
  const double nan = std::nan("");
  for (const double beta : {-0.1, 1.0, nan})
    expect_names({.type = "class_balanced", .class_balanced = {.beta = beta}}, "class_balanced.beta");
  expect_names({.type = "class_balanced", .class_balanced = {.gamma = -1}}, "class_balanced.gamma");
  expect_names({.type = "class_balanced", .class_balanced = {.background_weight = -1}},
               "class_balanced.background_weight");
  expect_names({.type = "eqlv2", .eqlv2 = {.gamma = nan}}, "eqlv2.gamma");
  expect_names({.type = "eqlv2", .eqlv2 = {.mu = nan}}, "eqlv2.mu");
  expect_names({.type = "eqlv2", .eqlv2 = {.alpha = -1}}, "eqlv2.alpha");
  expect_names({.type = "seesaw", .seesaw = {.p = -1}}, "seesaw.p");
  expect_names({.type = "seesaw", .seesaw = {.q = nan}}, "seesaw.q");
  expect_names({.type = "seesaw", .seesaw = {.eps = -1}}, "seesaw.eps");
  for (const std::vector<int>& edges : {std::vector<int>{}, {0}, {10, 10}, {20, 10}})
    expect_names({.type = "bags", .bags = {.edges = edges}}, "bags.edges");
  expect_names({.type = "bags", .bags = {.beta = -1}}, "bags.beta");
  expect_names({.type = "bags", .bags = {.seed = -1}}, "bags.seed");
}

}  // namespace
}  // namespace gradlibra
