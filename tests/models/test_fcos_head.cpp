// SPDX-License-Identifier: MIT
// The FCOS head's losses in the cases that training meets but examples do not show.
#include "models/heads/fcos_head.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/messages.h"
#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using namespace testing;

FcosConfig small(FcosConfig config) {
  config.feat_channels = 8;
  config.stacked_convs = 1;
  config.norm_groups = 2;
  if (config.level_bounds.size() == 4) config.level_bounds = {32};
  return config;
}

// Over two levels of a 64 x 64 image: 64 cells of stride 8 and 16 of stride 16.
struct SmallFcos : SmallHead<FcosHead> {
  template <class Loss = LossConfig>
  SmallFcos(Context& c, const FcosConfig& config, Loss loss = {})
      : SmallHead(c, small(config), {8, {8, 16}}, std::move(loss)) {}
};

const FcosConfig kImproved{
    .conv_bias = true, .center_radius = 1.5, .norm_on_bbox = true, .centerness_on_reg = true, .box_loss = "giou"};

using Fcos = HeadTest;

TEST_F(Fcos, ParametersAreNamedAsInMMDetection) {
  ParameterStore store(context);
  const FcosHead head(store, {}, {256, {8, 16, 32, 64, 128}},
                      make_classification_loss(context, {.type = "focal"}, unknown_classes(10)), 10,
                      Normalizer::num_pos);
  std::vector<std::string> names;
  for (const Parameter& p : store.all()) names.push_back(p.name);
  std::vector<std::string> want;
  for (const char* tower : {"cls", "reg"})
    for (int i = 0; i < 4; ++i)
      for (const char* part : {".conv.weight", ".gn.weight", ".gn.bias"})
        want.push_back(std::string("bbox_head.") + tower + "_convs." + std::to_string(i) + part);
  for (const char* out : {"conv_cls", "conv_reg", "conv_centerness"})
    for (const char* part : {".weight", ".bias"}) want.push_back(std::string("bbox_head.") + out + part);
  for (int l = 0; l < 5; ++l) want.push_back("bbox_head.scales." + std::to_string(l) + ".scale");
  EXPECT_EQ(names, want);
  EXPECT_EQ(store.find("bbox_head.conv_cls.weight")->node.value.shape(), (Shape{10, 3, 3, 256}));
  EXPECT_EQ(store.find("bbox_head.conv_reg.bias")->node.value.shape(), Shape{4});
  EXPECT_EQ(store.find("bbox_head.conv_centerness.bias")->node.value.shape(), Shape{1});
  EXPECT_EQ(store.find("bbox_head.scales.3.scale")->node.value.shape(), Shape{});  // a scalar in the file too
}

TEST_F(Fcos, StartValues) {
  SmallFcos head(context, {}, {.prior_probability = 0.01});
  head.store.initialize(0);
  for (const float b : head.value("bbox_head.conv_cls.bias")) EXPECT_NEAR(b, -4.59512, 1e-5);
  EXPECT_EQ(head.value("bbox_head.conv_reg.bias"), Floats(4, 0));
  EXPECT_EQ(head.value("bbox_head.scales.1.scale"), Floats{1});
  const Floats weights = head.value("bbox_head.cls_convs.0.conv.weight");
  const double squares = std::inner_product(weights.begin(), weights.end(), weights.begin(), 0.0);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(weights.size())), 0.01, 0.001);
}

// Every loss once more from what the head predicts and is told to predict.
TEST_F(Fcos, LossesByTheirDefinition) {
  for (const FcosConfig& config : {FcosConfig{}, kImproved}) {
    SCOPED_TRACE(config.box_loss);
    SmallFcos head(context, config, {.type = "cross_entropy"});
    Tape tape(context, Tape::Mode::inspection);
    SingleProcess alone;
    const Losses losses = head.train(tape, {0, 1}, truth({some, {}}, 4), alone);
    const auto noted = [&](const std::string& name) { return context.download<float>(tape.noted(name).node().value); };
    const auto assigned = context.download<int32_t>(tape.noted("targets.assigned").node().value);
    const Floats centerness = noted("targets.centerness");
    const double unit[2] = {config.norm_on_bbox ? 8.0 : 1.0, config.norm_on_bbox ? 16.0 : 1.0};
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
        if (a == 0) {
          EXPECT_EQ(centerness[80 * n + p], 0);
          continue;
        }
        ++positives;
        const Box& b = some[static_cast<size_t>(a - 1)];
        const double x = (static_cast<double>(cell % side) + 0.5) * static_cast<double>(stride);
        const double y = (static_cast<double>(cell / side) + 0.5) * static_cast<double>(stride);
        const double T[4] = {(x - b.x1) / unit[level], (y - b.y1) / unit[level], (b.x2 - x) / unit[level],
                             (b.y2 - y) / unit[level]};
        const double center =
            std::sqrt(std::min(T[0], T[2]) / std::max(T[0], T[2]) * std::min(T[1], T[3]) / std::max(T[1], T[3]));
        EXPECT_NEAR(centerness[80 * n + p], center, 1e-6);
        centers += center;
        const Floats distances = noted(prefix + "distances");
        double P[4], inner[4], outer[4];
        for (size_t k = 0; k < 4; ++k) {
          P[k] = distances[4 * row + k];
          inner[k] = std::min(P[k], T[k]), outer[k] = std::max(P[k], T[k]);
        }
        const auto area = [](const double* d) { return (d[0] + d[2]) * (d[1] + d[3]); };
        const double U = area(P) + area(T) - area(inner), iou = area(inner) / U;
        box += center * (config.box_loss == "giou" ? 1 - (iou - (area(outer) - U) / area(outer))
                                                   : -std::log(std::max(iou, 1e-6)));
        const double z = noted(prefix + "centerness")[row];
        central += std::log1p(std::exp(z)) - center * z;
      }
    ASSERT_GT(positives, 3);
    EXPECT_NEAR(losses.at("loss_cls"), cls / positives, 1e-5);
    EXPECT_NEAR(losses.at("loss_bbox"), box / centers, 1e-5);
    EXPECT_NEAR(losses.at("loss_centerness"), central / positives, 1e-5);
  }
}

TEST_F(Fcos, ABatchWithoutBoxesTrainsTheBackground) {
  for (const FcosConfig& config : {FcosConfig{}, kImproved}) {
    SmallFcos head(context, config);
    const Losses losses = head.train({0, 1}, truth({{}, {}}, 4));
    EXPECT_GT(losses.at("loss_cls"), 0);
    EXPECT_EQ(losses.at("loss_bbox"), 0);
    EXPECT_EQ(losses.at("loss_centerness"), 0);
    expect_finite(head.gradients());
    EXPECT_FALSE(all_zero(head.gradient("bbox_head.conv_cls.weight")));
    EXPECT_TRUE(all_zero(head.gradient("bbox_head.conv_reg.weight")));
    EXPECT_TRUE(all_zero(head.gradient("bbox_head.conv_centerness.bias")));
    EXPECT_TRUE(all_zero(head.gradient("bbox_head.scales.0.scale")));
  }
}

// MMDetection's FCOS has no flags for cells of padding: they are background like any other.
TEST_F(Fcos, CellsInThePaddingAreBackground) {
  GroundTruth boxes = truth({some, {{2, 2, 30, 18, 0}}}, 4);
  SmallFcos head(context, {});
  const Losses want = head.train({0, 1}, boxes);
  const std::vector<int32_t> sizes{64, 64, 20, 40}, as_stored{0, 0};
  boxes.sizes = context.upload<int32_t>(sizes, {2, 2});
  boxes.orientations = context.upload<int32_t>(as_stored, {2});
  EXPECT_EQ(head.train({0, 1}, boxes), want);
}

// Both sums that the losses are divided by: of positives and of centerness.
TEST_F(Fcos, NormalisersAreSumsOverRanks) {
  SmallFcos head(context, {});
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
  EXPECT_GT(positives, 3);
  EXPECT_EQ(all_positives, positives + 7);
  EXPECT_NEAR(all_centers, centers + 7, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_cls"), losses.at("loss_cls") * positives / all_positives, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_centerness"), losses.at("loss_centerness") * positives / all_positives, 1e-6);
  EXPECT_NEAR(own_losses.at("loss_bbox"), losses.at("loss_bbox") * centers / all_centers, 1e-6);
}

TEST_F(Fcos, BoxesThatHardlyExist) {
  for (const FcosConfig& config : {FcosConfig{}, kImproved}) {
    SmallFcos head(context, config);
    for (const auto& [name, value] : head.train({0}, truth({hardly_boxes}, 4)))
      EXPECT_TRUE(std::isfinite(value)) << name;
    expect_finite(head.gradients());
  }
}

TEST_F(Fcos, TakesAnyLoss) {
  auto made = std::make_unique<CountingLoss>(context);
  CountingLoss& loss = *made;
  SmallFcos head(context, {}, std::unique_ptr<ClassificationLoss>(std::move(made)));
  expect_serves(head, loss, truth({some}, 4), "bbox_head.conv_cls.bias", 1, 80);
  EXPECT_EQ(head.gradient("bbox_head.conv_cls.bias"), Floats(4, 80));  // a one from each of the cells
}

TEST_F(Fcos, PredictsBoxesAroundCellsAndTheirCenterness) {
  for (const FcosConfig& config : {FcosConfig{}, kImproved}) {
    SmallFcos head(context, config);
    Tape tape(context, Tape::Mode::inspection);
    const Predictions found = head.head.predict(tape, small_features(context, tape, {0}));
    EXPECT_EQ(found.level_rows, (std::vector<int64_t>{64, 16}));
    EXPECT_EQ(found.scores.shape(), (Shape{1, 80, 3}));
    const Floats boxes = context.download<float>(found.boxes.node().value);
    const Floats factors = context.download<float>(found.factors);
    const auto noted = [&](const char* name) { return context.download<float>(tape.noted(name).node().value); };
    const Floats distances = noted("bbox_head.level1.distances"), logits = noted("bbox_head.level1.centerness");
    for (size_t cell = 0; cell < 16; ++cell) {
      const float x = (static_cast<float>(cell % 4) + 0.5f) * 16, y = (static_cast<float>(cell / 4) + 0.5f) * 16;
      const float u = config.norm_on_bbox ? 16 : 1;
      const float* d = &distances[4 * cell];
      const Floats want{x - d[0] * u, y - d[1] * u, x + d[2] * u, y + d[3] * u};
      expect_near(Floats(boxes.begin() + 4 * (64 + static_cast<long>(cell)),
                         boxes.begin() + 4 * (65 + static_cast<long>(cell))),
                  want, 1e-4);
      EXPECT_NEAR(factors[64 + cell], 1 / (1 + std::exp(-logits[cell])), 1e-6);
    }
  }
}

TEST_F(Fcos, SaysWhichKeyDoesNotFit) {
  const auto message = [&](const FcosConfig& config) {
    return message_of<std::invalid_argument>([&] {
      ParameterStore store(context);
      const FcosHead head(store, config, {8, {8, 16}}, make_classification_loss(context, {}, unknown_classes(3)), 3,
                          Normalizer::num_pos);
    });
  };
  EXPECT_EQ(message(small({})), "");
  EXPECT_HAS(message({.norm_groups = 3, .level_bounds = {32}}), "norm_groups");
  for (const std::vector<double>& bounds : {std::vector<double>{}, {32, 64}, {-2}, {2e8}, {NAN}})
    EXPECT_HAS(message({.level_bounds = bounds}), "model.fcos.level_bounds");
  EXPECT_HAS(message({.level_bounds = {32}, .center_radius = -1}), "model.fcos.center_radius");
}

TEST_F(Fcos, OneLevelPerStride) {
  SmallFcos head(context, {});
  expect_one_level_per_stride(head, truth({some}, 4));
}

}  // namespace
}  // namespace gradlibra
