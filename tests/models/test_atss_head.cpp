// SPDX-License-Identifier: MIT
// The ATSS head's losses in the cases that training meets but examples do not show.
#include "models/heads/atss_head.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/messages.h"
#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using namespace testing;

AtssConfig small(AtssConfig config = {}) {
  config.feat_channels = 8;
  config.stacked_convs = 1;
  config.norm_groups = 2;
  config.anchor_scale = 2;
  return config;
}

// Over two levels of a 64 x 64 image: 64 anchors of side 16 and 16 of side 32.
struct SmallAtss : SmallHead<AtssHead> {
  template <class Loss = LossConfig>
  explicit SmallAtss(Context& c, Loss loss = {}) : SmallHead(c, small(), {8, {8, 16}}, std::move(loss)) {}
};

using Atss = HeadTest;

TEST_F(Atss, ParametersAreNamedAsInMMDetection) {
  ParameterStore store(context);
  const AtssHead head(store, {}, {256, {8, 16, 32, 64, 128}},
                      make_classification_loss(context, {.type = "focal"}, unknown_classes(10)), 10,
                      Normalizer::num_pos);
  std::vector<std::string> names, want;
  for (const Parameter& p : store.all()) names.push_back(p.name);
  for (const char* tower : {"cls", "reg"})
    for (int i = 0; i < 4; ++i)
      for (const char* part : {".conv.weight", ".gn.weight", ".gn.bias"})
        want.push_back(std::string("bbox_head.") + tower + "_convs." + std::to_string(i) + part);
  for (const char* out : {"atss_cls", "atss_reg", "atss_centerness"})
    for (const char* part : {".weight", ".bias"}) want.push_back(std::string("bbox_head.") + out + part);
  for (int l = 0; l < 5; ++l) want.push_back("bbox_head.scales." + std::to_string(l) + ".scale");
  EXPECT_EQ(names, want);
  store.allocate();
  store.initialize(0);
  for (const float b : context.download<float>(store.find("bbox_head.atss_cls.bias")->node.value))
    EXPECT_NEAR(b, -4.59512, 1e-5);
}

// Every loss once more from what the head predicts and is told to predict.
TEST_F(Atss, LossesByTheirDefinition) {
  SmallAtss head(context, {.type = "cross_entropy"});
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  const Losses losses = head.train(tape, {0, 1}, truth({some, {}}, 4), alone);
  const auto noted = [&](const std::string& name) { return context.download<float>(tape.noted(name).node().value); };
  const auto assigned = context.download<int32_t>(tape.noted("targets.assigned").node().value);
  const Floats centerness = noted("targets.centerness"), boxes = noted("bbox_head.boxes");
  double cls = 0, box = 0, central = 0, positives = 0, centers = 0;
  for (size_t n = 0; n < 2; ++n)
    for (size_t p = 0; p < 80; ++p) {
      const size_t level = p < 64 ? 0 : 1, cell = p - 64 * level, side = level == 0 ? 8 : 4, stride = 8 << level;
      const size_t row = n * side * side + cell;
      const std::string prefix = "bbox_head.level" + std::to_string(level) + ".";
      const int32_t a = assigned[80 * n + p];
      ASSERT_GE(a, 0);
      for (size_t c = 0; c < 3; ++c) {
        const double z = noted(prefix + "cls_out")[3 * row + c];
        const bool hit = a > 0 && some[static_cast<size_t>(a - 1)].label == static_cast<int>(c);
        cls += std::log1p(std::exp(hit ? -z : z));
      }
      if (a == 0) continue;
      ++positives;
      const Box& b = some[static_cast<size_t>(a - 1)];
      // The anchor's centre is its cell's corner.
      const double x = static_cast<double>(cell % side * stride), y = static_cast<double>(cell / side * stride);
      const double T[4] = {b.x1, b.y1, b.x2, b.y2};
      const double l = x - T[0], t = y - T[1], r = T[2] - x, u = T[3] - y;
      const double center = std::sqrt(std::min(l, r) / std::max(l, r) * std::min(t, u) / std::max(t, u));
      EXPECT_NEAR(centerness[80 * n + p], center, 1e-6);
      centers += center;
      const Floats d = noted(prefix + "deltas");
      const double edge = 2.0 * static_cast<double>(stride);
      const double cx = x + edge * 0.1 * d[4 * row], cy = y + edge * 0.1 * d[4 * row + 1],
                   w = edge * std::exp(0.2 * d[4 * row + 2]), h = edge * std::exp(0.2 * d[4 * row + 3]);
      const double P[4] = {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
      for (size_t k = 0; k < 4; ++k) EXPECT_NEAR(boxes[4 * (80 * n + p) + k], P[k], 1e-4);
      const auto extent = [](double lo, double hi) { return std::max(hi - lo, 0.0); };
      const double I =
          extent(std::max(P[0], T[0]), std::min(P[2], T[2])) * extent(std::max(P[1], T[1]), std::min(P[3], T[3]));
      const double E =
          extent(std::min(P[0], T[0]), std::max(P[2], T[2])) * extent(std::min(P[1], T[1]), std::max(P[3], T[3]));
      const double U = w * h + (T[2] - T[0]) * (T[3] - T[1]) - I;
      box += center * (1 - (I / U - (E - U) / E));
      const double z = noted(prefix + "centerness")[row];
      central += std::log1p(std::exp(z)) - center * z;
    }
  ASSERT_GT(positives, 3);
  ASSERT_GT(centers, 1);
  EXPECT_NEAR(losses.at("loss_cls"), cls / positives, 1e-5);
  EXPECT_NEAR(losses.at("loss_bbox"), 2 * box / centers, 1e-5);
  EXPECT_NEAR(losses.at("loss_centerness"), central / positives, 1e-5);
}

TEST_F(Atss, ABatchWithoutBoxesTrainsTheBackground) {
  SmallAtss head(context);
  const Losses losses = head.train({0, 1}, truth({{}, {}}, 4));
  EXPECT_GT(losses.at("loss_cls"), 0);
  EXPECT_EQ(losses.at("loss_bbox"), 0);
  EXPECT_EQ(losses.at("loss_centerness"), 0);
  expect_finite(head.gradients());
  EXPECT_FALSE(all_zero(head.gradient("bbox_head.atss_cls.weight")));
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.atss_reg.weight")));
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.atss_centerness.bias")));
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.scales.0.scale")));
}

TEST_F(Atss, NormalisersAreSumsOverRanks) {
  SmallAtss head(context);
  const GroundTruth boxes = truth({some}, 4);
  const auto run = [&](Communicator& ranks) {
    Tape tape(context, Tape::Mode::inspection);
    const Losses losses = head.train(tape, {0}, boxes, ranks);
    const auto divisor = [&](const char* name) { return context.download<double>(tape.noted(name).node().value)[0]; };
    return std::tuple(losses, divisor("targets.class_normalizer"), divisor("targets.box_normalizer"));
  };
  SingleProcess alone;
  TwoRanks ranks;
  const auto [losses, positives, centers] = run(alone);
  const auto [own_losses, all_positives, all_centers] = run(ranks);
  EXPECT_EQ(all_positives, positives + 7);
  EXPECT_NEAR(all_centers, centers + 7, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_cls"), losses.at("loss_cls") * positives / all_positives, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_centerness"), losses.at("loss_centerness") * positives / all_positives, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_bbox"), losses.at("loss_bbox") * centers / all_centers, 1e-6);
}

// Half of the second image is padding: its cells are worth nothing, whatever the network says of them.
TEST_F(Atss, CellsInThePaddingTakeNoPart) {
  GroundTruth boxes = truth({some, {{2, 2, 30, 28, 0}}}, 4);
  boxes.sizes = context.upload<int32_t>(std::vector<int32_t>{64, 64, 20, 64}, {2, 2});
  boxes.orientations = context.upload<int32_t>(std::vector<int32_t>{0, 0}, {2});
  SmallAtss head(context, {.normalizer = "num_valid"});
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  (void)head.train(tape, {0, 1}, boxes, alone);
  const auto assigned = context.download<int32_t>(tape.noted("targets.assigned").node().value);
  for (size_t p = 0; p < 80; ++p) {
    EXPECT_GE(assigned[p], 0);
    EXPECT_EQ(assigned[80 + p] < 0, p < 64 ? p / 8 >= 4 : (p - 64) / 4 >= 2) << p;
  }
  EXPECT_EQ(context.download<double>(tape.noted("targets.class_normalizer").node().value)[0], 80 + 40);
}

TEST_F(Atss, BoxesThatHardlyExist) {
  SmallAtss head(context);
  for (const auto& [name, value] : head.train({0}, truth({hardly_boxes}, 4))) EXPECT_TRUE(std::isfinite(value)) << name;
  expect_finite(head.gradients());
}

TEST_F(Atss, TakesAnyLoss) {
  auto made = std::make_unique<CountingLoss>(context);
  CountingLoss& loss = *made;
  SmallAtss head(context, std::unique_ptr<ClassificationLoss>(std::move(made)));
  expect_serves(head, loss, truth({some}, 4), "bbox_head.atss_cls.bias", 1, 80);
  EXPECT_EQ(head.gradient("bbox_head.atss_cls.bias"), Floats(4, 80));  // a one from each of the cells
}

TEST_F(Atss, ScoresGoWithCenterness) {
  SmallAtss head(context);
  Tape tape(context, Tape::Mode::inspection);
  const Predictions found = head.head.predict(tape, small_features(context, tape, {0}));
  EXPECT_EQ(found.level_rows, (std::vector<int64_t>{64, 16}));
  EXPECT_EQ(found.scores.shape(), (Shape{1, 80, 3}));
  const Floats factors = context.download<float>(found.factors);
  const Floats logits = context.download<float>(tape.noted("bbox_head.level1.centerness").node().value);
  for (size_t cell = 0; cell < 16; ++cell) EXPECT_NEAR(factors[64 + cell], 1 / (1 + std::exp(-logits[cell])), 1e-6);
}

TEST_F(Atss, SaysWhichKeyDoesNotFit) {
  const auto message = [&](const AtssConfig& config, const Pyramid& pyramid) {
    return message_of<std::invalid_argument>([&] {
      ParameterStore store(context);
      const AtssHead head(store, config, pyramid, make_classification_loss(context, {}, unknown_classes(3)), 3,
                          Normalizer::num_pos);
    });
  };
  EXPECT_EQ(message(small(), {8, {8, 16}}), "");
  EXPECT_HAS(message({.topk = 0}, {8, {8}}), "model.atss.topk");
  EXPECT_HAS(message({.topk = 17}, {8, {8}}), "model.atss.topk");
  EXPECT_HAS(message({.anchor_scale = 0}, {8, {8}}), "model.atss.anchor_scale");
  EXPECT_HAS(message({.anchor_scale = NAN}, {8, {8}}), "model.atss.anchor_scale");
  EXPECT_HAS(message(small(), {8, std::vector<int>(9, 8)}), "model.neck.num_outs");
}

}  // namespace
}  // namespace gradlibra
