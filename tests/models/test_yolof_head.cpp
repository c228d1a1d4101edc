// SPDX-License-Identifier: MIT
// YOLOF's head and neck in the cases that training meets but examples do not show.
#include "models/heads/yolof_head.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "kernels/boxes/uniform_assign.h"
#include "models/necks/dilated_encoder.h"
#include "tests/messages.h"
#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using namespace testing;

YolofConfig small(YolofConfig config = {}) {
  config.cls_convs = 1;
  config.reg_convs = 1;
  config.anchor_scales = {1, 2, 4};
  return config;
}

constexpr int64_t kAnchors = 4 * 4 * 3;  // of one level of stride 16 over a 64 x 64 image

// A loss whose channels know background by themselves, as a softmax over classes and background would.
class OwnForeground final : public ClassificationLoss {
 public:
  [[nodiscard]] int channels() const override { return 4; }
  [[nodiscard]] std::vector<float> bias_init() const override { return {0, 0, 0, 0}; }
  [[nodiscard]] bool has_objectness() const override { return true; }
  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    return tape.buffer({logits.dim(0), logits.dim(1), 3});
  }
  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor&, const Summed&) override {
    ops::with_loss_gradient(tape, rows.logits, [&](View<float> grad) {
      tape.run([&](auto& device) { kernels::fill(device, grad, 1.0f); });
    });
    return tape.context().zeros({1}, DType::f64);
  }
};

struct SmallYolof : SmallHead<YolofHead> {
  template <class Loss = LossConfig>
  explicit SmallYolof(Context& c, Loss loss = {}) : SmallHead(c, small(), {8, {16}}, std::move(loss)) {}
};

using Yolof = HeadTest;

TEST_F(Yolof, ParametersAreNamedAsInMMDetection) {
  ParameterStore store(context);
  const std::vector<int> channels{16, 32, 64, 128};
  const DilatedEncoder neck(store, {.channels = 16, .block_channels = 8}, channels);
  const YolofHead head(store, {}, neck.pyramid(),
                       make_classification_loss(context, {.type = "focal"}, unknown_classes(7)), 7,
                       Normalizer::num_pos);
  EXPECT_EQ(neck.pyramid().strides, std::vector<int>{32});
  std::vector<std::string> want;
  const auto module = [&](const std::string& name) {
    want.push_back(name + ".conv.weight");
    for (const char* part : {"weight", "bias", "running_mean", "running_var"}) want.push_back(name + ".bn." + part);
  };
  for (const char* conv : {"lateral", "fpn"}) {
    for (const char* part : {"_conv.weight", "_conv.bias"}) want.push_back("neck." + std::string(conv) + part);
    for (const char* part : {"weight", "bias", "running_mean", "running_var"})
      want.push_back("neck." + std::string(conv) + "_norm." + part);
  }
  for (int block = 0; block < 4; ++block)
    for (int conv = 1; conv <= 3; ++conv)
      module("neck.dilated_encoder_blocks." + std::to_string(block) + ".conv" + std::to_string(conv));
  for (int i = 0; i < 2; ++i) module("bbox_head.cls_subnet." + std::to_string(i));
  for (int i = 0; i < 4; ++i) module("bbox_head.bbox_subnet." + std::to_string(i));
  for (const char* out : {"cls_score", "bbox_pred", "object_pred"})
    for (const char* part : {".weight", ".bias"}) want.push_back(std::string("bbox_head.") + out + part);
  std::multiset<std::string> names;
  for (const Parameter& p : store.all()) names.insert(p.name);
  EXPECT_EQ(names, std::multiset<std::string>(want.begin(), want.end()));
  EXPECT_EQ(store.find("bbox_head.cls_score.weight")->node.value.shape(), (Shape{5 * 7, 3, 3, 16}));
  EXPECT_EQ(store.find("bbox_head.bbox_pred.bias")->node.value.shape(), Shape{20});
  EXPECT_EQ(store.find("bbox_head.object_pred.bias")->node.value.shape(), Shape{5});
  EXPECT_EQ(store.find("neck.dilated_encoder_blocks.1.conv2.conv.weight")->node.value.shape(), (Shape{8, 3, 3, 8}));
  store.allocate();
  store.initialize(0);
  for (const float b : context.download<float>(store.find("bbox_head.cls_score.bias")->node.value))
    EXPECT_NEAR(b, -4.59512, 1e-5);
  for (const float b : context.download<float>(store.find("bbox_head.object_pred.bias")->node.value)) EXPECT_EQ(b, 0);
}

// Every loss once more from what the head predicts and is told to predict.
TEST_F(Yolof, LossesByTheirDefinition) {
  SmallYolof head(context, {.type = "cross_entropy"});
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  const GroundTruth objects = truth({some, {}}, 4);
  const Losses losses = head.train(tape, {0, 1}, objects, alone);
  const auto noted = [&](const std::string& name) { return context.download<float>(tape.noted(name).node().value); };
  const auto assigned = context.download<int32_t>(tape.noted("targets.assigned").node().value);
  const auto pairs = context.download<int32_t>(tape.noted("targets.pairs").node().value);
  const Floats logits = noted("bbox_head.logits"), boxes = noted("bbox_head.boxes");
  double cls = 0, positives = 0, box = 0;
  int ignored = 0, kept = 0;
  for (size_t row = 0; row < 2 * kAnchors; ++row) {
    const int32_t a = assigned[row];
    positives += a > 0;
    ignored += a < 0;
    if (a < 0) continue;
    for (size_t c = 0; c < 3; ++c) {
      const double z = logits[3 * row + c];
      const bool hit = a > 0 && some[static_cast<size_t>(a - 1)].label == static_cast<int>(c);
      cls += std::log1p(std::exp(hit ? -z : z));
    }
  }
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i] < 0) continue;
    ++kept;
    const size_t n = i / (8 * 4), g = i % 4;
    ASSERT_EQ(n, 0u);
    const float* P = &boxes[4 * (n * kAnchors + static_cast<size_t>(pairs[i]))];
    const double T[4] = {some[g].x1, some[g].y1, some[g].x2, some[g].y2};
    const auto extent = [](double lo, double hi) { return std::max(hi - lo, 0.0); };
    const double I = extent(std::max<double>(P[0], T[0]), std::min<double>(P[2], T[2])) *
                     extent(std::max<double>(P[1], T[1]), std::min<double>(P[3], T[3]));
    const double E = extent(std::min<double>(P[0], T[0]), std::max<double>(P[2], T[2])) *
                     extent(std::min<double>(P[1], T[1]), std::max<double>(P[3], T[3]));
    const double U = (double{P[2]} - P[0]) * (double{P[3]} - P[1]) + (T[2] - T[0]) * (T[3] - T[1]) - I;
    box += 1 - (I / U - (E - U) / E);
  }
  ASSERT_GT(positives, 2);
  ASSERT_GT(ignored, 0);
  ASSERT_GT(kept, positives);
  EXPECT_NEAR(losses.at("loss_cls"), cls / positives, 1e-5);
  EXPECT_NEAR(losses.at("loss_bbox"), box / positives, 1e-5);
}

TEST_F(Yolof, ScoresAreProducts) {
  SmallYolof head(context);
  Tape tape(context, Tape::Mode::inspection);
  const Predictions found = head.head.predict(tape, head.levels(tape, {0}));
  EXPECT_EQ(found.level_rows, std::vector<int64_t>{kAnchors});
  EXPECT_TRUE(found.factors.empty());
  // The classifier's own logits are not noted: from the joint ones and the objectness, sigma(a) = score / sigma(b) <=
  // 1.
  const Floats scores = context.download<float>(found.scores);
  const Floats objectness = context.download<float>(tape.noted("bbox_head.object_pred").node().value);
  for (size_t row = 0; row < static_cast<size_t>(kAnchors); ++row)
    for (size_t c = 0; c < 3; ++c) EXPECT_LT(scores[3 * row + c], 1 / (1 + std::exp(-objectness[row])));
}

TEST_F(Yolof, ABatchWithoutBoxesTrainsTheBackground) {
  SmallYolof head(context);
  const Losses losses = head.train({0, 1}, truth({{}, {}}, 4));
  EXPECT_GT(losses.at("loss_cls"), 0);
  EXPECT_EQ(losses.at("loss_bbox"), 0);
  expect_finite(head.gradients());
  EXPECT_FALSE(all_zero(head.gradient("bbox_head.cls_score.weight")));
  EXPECT_FALSE(all_zero(head.gradient("bbox_head.object_pred.weight")));
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.bbox_pred.weight")));
}

TEST_F(Yolof, NormalisersAreSumsOverRanks) {
  const GroundTruth boxes = truth({some}, 4);
  const auto run = [&](Communicator& ranks) {
    SmallYolof head(context);
    Tape tape(context, Tape::Mode::inspection);
    const Losses losses = head.train(tape, {0}, boxes, ranks);
    return std::tuple(losses, context.download<double>(tape.noted("targets.class_normalizer").node().value)[0]);
  };
  SingleProcess alone;
  TwoRanks ranks;
  const auto [losses, positives] = run(alone);
  const auto [own_losses, all_positives] = run(ranks);
  EXPECT_EQ(all_positives, positives + 7);
  for (const char* name : {"loss_cls", "loss_bbox"})
    EXPECT_NEAR(own_losses.at(name), losses.at(name) * positives / all_positives, 1e-6);
}

TEST_F(Yolof, CellsInThePaddingTakeNoPart) {
  GroundTruth boxes = truth({some, {{2, 2, 30, 28, 0}}}, 4);
  boxes.sizes = context.upload<int32_t>(std::vector<int32_t>{64, 64, 20, 64}, {2, 2});
  boxes.orientations = context.upload<int32_t>(std::vector<int32_t>{0, 0}, {2});
  SmallYolof head(context);
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  (void)head.train(tape, {0, 1}, boxes, alone);
  const auto assigned = context.download<int32_t>(tape.noted("targets.assigned").node().value);
  const auto pairs = context.download<int32_t>(tape.noted("targets.pairs").node().value);
  for (size_t p = kAnchors / 2; p < kAnchors; ++p) EXPECT_EQ(assigned[kAnchors + p], -1);
  for (size_t i = pairs.size() / 2; i < pairs.size(); ++i)
    if (pairs[i] != kernels::kNoPair) {
      EXPECT_LT(pairs[i] >= 0 ? pairs[i] : ~pairs[i], kAnchors / 2);
    }
}

TEST_F(Yolof, BoxesThatHardlyExist) {
  SmallYolof head(context);
  for (const auto& [name, value] : head.train({0}, truth({hardly_boxes}, 4))) EXPECT_TRUE(std::isfinite(value)) << name;
  expect_finite(head.gradients());
}

TEST_F(Yolof, TakesAnyLoss) {
  auto made = std::make_unique<CountingLoss>(context);
  CountingLoss& loss = *made;
  SmallYolof head(context, std::unique_ptr<ClassificationLoss>(std::move(made)));
  expect_serves(head, loss, truth({some}, 4), "bbox_head.cls_score.bias", 3, kAnchors);
}

// Without objectness the logits are the classifier's, and nothing is learned about it.
TEST_F(Yolof, ALossWithItsOwnForegroundGoesWithoutObjectness) {
  SmallYolof head(context, std::unique_ptr<ClassificationLoss>(std::make_unique<OwnForeground>()));
  (void)head.train({0}, truth({{}}, 4));
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.object_pred.weight")));
  EXPECT_EQ(head.gradient("bbox_head.cls_score.bias"), Floats(12, 16));  // a one from each of the cells
  Tape tape(context, Tape::Mode::inspection);
  (void)head.head.predict(tape, head.levels(tape, {0}));
  EXPECT_EQ(tape.noted("bbox_head.logits").shape(), (Shape{1, kAnchors, 4}));
}

// In a step the batch's statistics and new running ones, in detection those that are stored.
TEST_F(Yolof, BatchNormsTrain) {
  SmallYolof head(context);
  const auto running = [&] {
    return context.download<float>(head.store.find("bbox_head.cls_subnet.0.bn.running_mean")->node.value);
  };
  const Floats before = running();
  Tape detecting(context, Tape::Mode::inference);
  const Floats scores = context.download<float>(head.head.predict(detecting, head.levels(detecting, {0})).scores);
  EXPECT_EQ(running(), before);
  (void)head.train({0, 1}, truth({some, {}}, 4));
  EXPECT_NE(running(), before);
  Tape again(context, Tape::Mode::inference);
  EXPECT_NE(context.download<float>(head.head.predict(again, head.levels(again, {0})).scores), scores);
}

// The convolutions before the neck's norms have biases: with stored statistics they count, in a step the batch's mean
// takes them away.
TEST_F(Yolof, TheNecksBiases) {
  ParameterStore store(context);
  const std::vector<int> channels{2, 2, 4, 8};
  const DilatedEncoder neck(store, {.channels = 4, .block_channels = 2, .dilations = {2}}, channels);
  store.allocate();
  fill_parameters(store);
  const auto encode = [&](Tape::Mode mode) {
    Tape tape(context, mode);
    const Var c5 = tape.constant(context.upload<float>(filled_nhwc("c5", 2, 8, 3, 5, -1, 1), {2, 3, 5, 8}));
    const std::vector<Var> stages{Var(), Var(), Var(), c5};
    return context.download<float>(neck(tape, stages)[0].node().value);
  };
  const Floats stored = encode(Tape::Mode::inference), batch = encode(Tape::Mode::training);
  context.upload<float>(Floats{3, 3, 3, 3}, store.find("neck.lateral_conv.bias")->node.value);
  expect_near(encode(Tape::Mode::training), batch, 1e-4);
  EXPECT_NE(encode(Tape::Mode::inference), stored);
}

TEST_F(Yolof, SaysWhichKeyDoesNotFit) {
  const auto message = [&](const YolofConfig& config, const Pyramid& pyramid) {
    return message_of<std::invalid_argument>([&] {
      ParameterStore store(context);
      const std::vector<int> channels{2, 2, 2, 2};
      const DilatedEncoder neck(store, config.encoder, channels);
      const YolofHead head(store, config, pyramid, make_classification_loss(context, {}, unknown_classes(3)), 3,
                           Normalizer::num_pos);
    });
  };
  const Pyramid one{8, {32}};
  const auto expect_named = [&](const YolofConfig& config, const std::string& key) {
    EXPECT_HAS(message(config, one), "model.yolof." + key);
  };
  EXPECT_EQ(message(small(), one), "");
  EXPECT_HAS(message(small(), {8, {16, 32}}), "model.detector");
  expect_named({.encoder = {.channels = 0}}, "encoder.channels");
  expect_named({.encoder = {.dilations = {2, 0}}}, "encoder.dilations");
  expect_named({.anchor_scales = {}}, "anchor_scales");
  expect_named({.anchor_scales = {1, -1}}, "anchor_scales");
  expect_named({.anchor_ratios = {NAN}}, "anchor_ratios");
  expect_named({.centre_clamp = -1}, "centre_clamp");
  expect_named({.match_times = 17}, "match_times");
}

}  // namespace
}  // namespace gradlibra
