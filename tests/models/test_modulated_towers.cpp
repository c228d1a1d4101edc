// SPDX-License-Identifier: MIT
// FCOS with modulated deformable convolutions at the end of its towers (model.fcos.dcn_on_last_conv): names, start,
// weights to files and back, a short training.
#include <algorithm>

#include "models/detector.h"
#include "models/heads/fcos_head.h"
#include "runtime/training/optimizer.h"
#include "tests/messages.h"
#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using namespace testing;
using Modulated = HeadTest;

// Two convolutions in each tower, over two levels of a 64 x 64 image.
FcosConfig small(bool modulated, const std::string& norm = "group") {
  return {.feat_channels = 8,
          .stacked_convs = 2,
          .norm = norm,
          .norm_groups = 2,
          .dcn_on_last_conv = modulated,
          .level_bounds = {32}};
}
struct SmallFcos : SmallHead<FcosHead> {
  SmallFcos(Context& c, const FcosConfig& config) : SmallHead(c, config, {8, {8, 16}}, LossConfig{}) {}
  // What the head predicts on level 0.
  Floats outputs() {
    Tape tape(context, Tape::Mode::inspection);
    (void)head.predict(tape, levels(tape, {0, 1}));
    Floats all;
    for (const char* name : {"cls_out", "distances"}) {
      const Floats one = context.download<float>(tape.noted(std::string("bbox_head.level0.") + name).node().value);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }
  void set(const std::string& name, const Floats& values) {
    context.upload<float>(values, store.find(name)->node.value);
    context.convolution().weights_changed();
  }
};
const char* const kTowers[] = {"bbox_head.cls_convs.1.conv", "bbox_head.reg_convs.1.conv"};

TEST_F(Modulated, ParametersAreNamedAsInMMDetection) {
  for (const bool bias : {false, true}) {
    ParameterStore store(context);
    const FcosHead head(store, {.conv_bias = bias, .dcn_on_last_conv = true}, {256, {8, 16, 32, 64, 128}},
                        make_classification_loss(context, {.type = "focal"}, unknown_classes(10)), 10,
                        Normalizer::num_pos);
    std::vector<std::string> names, want;
    for (const Parameter& p : store.all())
      if (p.name.find("_convs.") != std::string::npos) names.push_back(p.name);
    for (const char* tower : {"cls", "reg"})
      for (const char* layer : {"0", "1", "2", "3"}) {
        const std::string prefix = std::string("bbox_head.") + tower + "_convs." + layer;
        want.push_back(prefix + ".conv.weight");
        if (bias) want.push_back(prefix + ".conv.bias");
        for (const char* part : {".gn.weight", ".gn.bias"}) want.push_back(prefix + part);
        if (*layer != '3') continue;
        for (const char* part : {".conv.conv_offset.weight", ".conv.conv_offset.bias"}) want.push_back(prefix + part);
      }
    EXPECT_EQ(names, want);
    const Parameter& predicts = *store.find("bbox_head.reg_convs.3.conv.conv_offset.weight");
    EXPECT_EQ(predicts.node.value.shape(), (Shape{27, 3, 3, 256}));
    EXPECT_EQ(predicts.role, Role::convolution_weight);
    EXPECT_EQ(store.find("bbox_head.cls_convs.3.conv.conv_offset.bias")->node.value.shape(), Shape{27});
    EXPECT_EQ(store.find("bbox_head.cls_convs.3.conv.weight")->node.value.shape(), (Shape{256, 3, 3, 256}));
  }
}

// What the predicting convolutions add: 27 channels of 3 x 3 x 256 and a bias, twice.
TEST_F(Modulated, ParametersAndMultiplyAdds) {
  const auto costs = [&](bool modulated) {
    ModelConfig config{.detector = "fcos"};
    config.fcos.dcn_on_last_conv = modulated;
    const Detector detector(context, config, 10);
    int64_t parameters = 0, products = 0, samples = 0;
    for (const Detector::PartCost& part : detector.costs(64, 64)) {
      parameters += part.parameters;
      (part.sampling ? samples : products) += part.multiply_adds;
    }
    return std::vector<int64_t>{parameters, products, samples};
  };
  const std::vector<int64_t> plain = costs(false), modulated = costs(true);
  const int64_t weights = 2 * 27 * 9 * 256, cells = 64 + 16 + 4 + 1 + 1;
  EXPECT_EQ(modulated[0] - plain[0], weights + 2 * 27);
  EXPECT_EQ(modulated[1] - plain[1], cells * weights);
  EXPECT_EQ(modulated[2] - plain[2], cells * 2 * 9 * 256 * 5);
}

TEST_F(Modulated, StartValues) {
  SmallFcos head(context, small(true, "none"));
  head.store.initialize(0);
  const float bound = 1 / std::sqrt(9.0f * 8);
  for (const std::string tower : kTowers) {
    EXPECT_TRUE(all_zero(head.value(tower + ".conv_offset.weight")));
    EXPECT_TRUE(all_zero(head.value(tower + ".conv_offset.bias")));
    EXPECT_TRUE(all_zero(head.value(tower + ".bias")));
    const Floats weights = head.value(tower + ".weight");
    const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
    EXPECT_TRUE(*least >= -bound && *least < -0.97f * bound) << *least;
    EXPECT_TRUE(*most <= bound && *most > 0.97f * bound) << *most;
  }
}

// Offsets 0 and masks of 1/2: a plain convolution of half the weights.
TEST_F(Modulated, StartsAsHalfAPlainConvolution) {
  SmallFcos modulated(context, small(true, "none")), plain(context, small(false, "none"));
  for (const std::string tower : kTowers) {
    for (const char* part : {".conv_offset.weight", ".conv_offset.bias"})
      modulated.set(tower + part, Floats(modulated.value(tower + part).size(), 0.0f));
    Floats half = modulated.value(tower + ".weight");
    for (float& w : half) w *= 0.5f;
    plain.set(tower + ".weight", half);
  }
  expect_near(modulated.outputs(), plain.outputs(), 1e-5, 1e-5);
}

// A training writes and reads its weights by name; of a plain detector's file it says what is missing.
TEST_F(Modulated, WeightsGoThroughFiles) {
  SmallFcos from(context, small(true)), to(context, small(true)), plain(context, small(false));
  SafetensorsFile file, of_plain;
  save_weights(from.store, file);
  const FileTensor& weight = file.tensors.at("bbox_head.cls_convs.1.conv.conv_offset.weight");
  EXPECT_EQ(weight.shape, (std::vector<int64_t>{27, 8, 3, 3}));
  to.store.initialize(4);
  EXPECT_NE(to.outputs(), from.outputs());
  const WeightReport report = load_weights(to.store, file, "f", WeightScope::detector);
  EXPECT_EQ(report.matched.size(), from.store.all().size());
  EXPECT_EQ(to.outputs(), from.outputs());

  save_weights(plain.store, of_plain);
  const std::string message = message_of<std::runtime_error>(
      [&] { (void)load_weights(to.store, of_plain, "plain.safetensors", WeightScope::detector); });
  EXPECT_HAS(message, "bbox_head.cls_convs.1.conv.conv_offset.weight");
}

TEST_F(Modulated, TrainsAndMovesItsSamples) {
  for (const char* norm : {"group", "none"}) {
    SCOPED_TRACE(norm);
    SmallFcos head(context, small(true, norm));
    head.store.initialize(2);
    Optimizer optimizer(head.store, {.clip_norm = 10});
    const GroundTruth boxes = truth({some, {{2, 2, 30, 18, 0}}}, 4);
    double first = 0, last = 0;
    for (int step = 0; step < 20; ++step) {
      last = 0;
      for (const auto& [name, value] : head.train({0, 1}, boxes)) last += value;
      ASSERT_TRUE(std::isfinite(last));
      if (step == 0) first = last;
      optimizer.set_lr(0.02);
      optimizer.update();
    }
    EXPECT_LT(last, 0.95 * first);
    for (const std::string tower : kTowers) {
      const Floats bias = head.value(tower + ".conv_offset.bias");
      EXPECT_FALSE(all_zero({bias.begin(), bias.begin() + 18}));  // offsets
      EXPECT_FALSE(all_zero({bias.begin() + 18, bias.end()}));    // masks
    }
  }
}

TEST_F(Modulated, NeedsAConvolutionToReplace) {
  FcosConfig config = small(true);
  config.stacked_convs = 0;
  EXPECT_HAS(message_of<std::invalid_argument>([&] { const SmallFcos head(context, config); }),
             "model.fcos.dcn_on_last_conv: model.fcos.stacked_convs is 0");
}

}  // namespace
}  // namespace gradlibra
