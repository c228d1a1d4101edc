// SPDX-License-Identifier: MIT
// Whole networks against worked examples in double precision: outputs, assignments, losses, gradient norms, detections,
// sizes. Each runs through oneDNN (where built) and through the plain loops.
#include <gtest/gtest.h>

#include <utility>

#include "models/necks/fpn.h"
#include "tests/models/network_examples.h"

namespace gradlibra {
namespace {

using namespace testing;
using nlohmann::json;

const json& vectors() {
  static const json all = testing::read_vectors("networks");
  return all;
}

using Networks = NetworkTest;
INSTANTIATE_TEST_SUITE_P(Libraries, Networks, ::testing::Values(ConvolutionLibrary::best, ConvolutionLibrary::plain),
                         library_name);

void check_backbone(Context& context, const std::string& key, const BackboneConfig& config) {
  const json& example = vectors()[key];
  ParameterStore store(context);
  const ResNet backbone(store, config);
  store.allocate();
  fill_parameters(store);
  Tape tape(context, Tape::Mode::inference);
  const std::vector<Var> levels = backbone(tape, input_of(tape, example["inputs"]["image"]));
  ASSERT_EQ(levels.size(), 4u);
  for (size_t l = 0; l < 4; ++l)
    expect_summary(levels[l].node().value, context, example["expected"]["levels"][l], example["tol"],
                   key + " C" + std::to_string(l + 2));
}

TEST_P(Networks, BackboneR18) { check_backbone(context, "backbone_r18_pytorch", {.depth = 18}); }
TEST_P(Networks, BackboneR34) { check_backbone(context, "backbone_r34_pytorch", {.depth = 34}); }
TEST_P(Networks, BackboneR50) { check_backbone(context, "backbone_r50_pytorch", {.depth = 50}); }
TEST_P(Networks, BackboneR50Caffe) { check_backbone(context, "backbone_r50_caffe", {.depth = 50, .style = "caffe"}); }
TEST_P(Networks, BackboneR101) { check_backbone(context, "backbone_r101_pytorch", {.depth = 101}); }

void check_fpn(Context& context, const std::string& key, NeckConfig config) {
  const json& example = vectors()[key];
  config.out_channels = 64;
  ParameterStore store(context);
  const std::vector<int> channels{8, 16, 32, 64};
  const Fpn neck(store, config, channels);
  store.allocate();
  fill_parameters(store);
  Tape tape(context, Tape::Mode::inference);
  std::vector<Var> stages;
  for (const json& spec : example["inputs"]["inputs"]) stages.push_back(input_of(tape, spec));
  const std::vector<Var> levels = neck(tape, stages);
  ASSERT_EQ(levels.size(), example["expected"]["levels"].size());
  for (size_t l = 0; l < levels.size(); ++l)
    expect_summary(levels[l].node().value, context, example["expected"]["levels"][l], example["tol"],
                   key + " level " + std::to_string(l));
}

TEST_P(Networks, FpnOnInput) { check_fpn(context, "fpn_on_input", {}); }
TEST_P(Networks, FpnOnLateral) { check_fpn(context, "fpn_on_lateral", {.extra = "on_lateral"}); }
TEST_P(Networks, FpnOnOutputRelu) {
  check_fpn(context, "fpn_on_output_relu", {.extra = "on_output", .relu_before_extra = true});
}
TEST_P(Networks, FpnGroupNorm) { check_fpn(context, "fpn_on_input_gn", {.norm = "group"}); }
TEST_P(Networks, FpnMaxPool) { check_fpn(context, "fpn_max_pool", {.extra = "max_pool"}); }

void check_reppoints(Context& context, const std::string& key, ModelConfig config) {
  const json& example = vectors()[key];
  const json& expected = example["expected"];
  const double tol = example["tol"];
  config.head.refine_min_pos_iou = 0;
  config.test.keep_empty_boxes = true;  // the examples follow MMDetection 2.x

  for (const auto& [name, want] : expected["train"].items()) {
    SCOPED_TRACE(key + " " + name);
    ModelConfig with_loss = config;
    if (name == "focal_pos") {
      with_loss.loss = {.type = "focal", .normalizer = "num_pos_image_min1", .focal = {.gamma = 2, .alpha = 0.25}};
    } else {
      with_loss.loss = {.type = "cross_entropy",
                        .normalizer = name == "sigmoid_ce_pos" ? "num_pos_image_min1" : "pos_plus_neg"};
    }
    Detector detector(context, with_loss, example["inputs"]["num_classes"]);
    fill_parameters(detector.parameters());
    Tape tape(context, Tape::Mode::inspection);
    expect_losses(detector, tape, example["inputs"], want);

    std::vector<int> init, refine;
    for (const json& image : want["info"]["assign_init"]) init.insert(init.end(), image.begin(), image.end());
    for (const json& image : want["info"]["assign_refine"]) refine.insert(refine.end(), image.begin(), image.end());
    const auto told = [&](const std::string& what) -> const Tensor& {
      return tape.noted("targets." + what).node().value;
    };
    EXPECT_EQ(assignment_of(context, told("init_assigned")), init);
    EXPECT_EQ(assignment_of(context, told("refine_assigned")), refine);
    EXPECT_EQ(context.download<double>(told("init_normalizer"))[0], want["info"]["avg_factor_init"].get<double>());
    EXPECT_EQ(context.download<double>(told("refine_normalizer"))[0], want["info"]["avg_factor_refine"].get<double>());

    expect_gradients(detector, tape, want);
  }

  Detector detector(context, config, example["inputs"]["num_classes"]);
  fill_parameters(detector.parameters());
  Tape tape(context, Tape::Mode::inspection);
  const Predictions predicted = detector.predict(tape, input_of(tape, example["inputs"]["image"]));
  size_t i = 0;
  for (size_t l = 0; l < predicted.level_rows.size(); ++l)
    for (const char* output : {"cls_out", "pts_init", "pts_refine"}) {
      const Var value = tape.noted("bbox_head.level" + std::to_string(l) + "." + output);
      expect_summary(value.node().value, context, expected["eval_outputs"][i], tol,
                     key + " output " + std::to_string(i));
      ++i;
    }
  expect_detections(detector, example["inputs"], expected["detections_image0"], key);
}

TEST_P(Networks, RepPointsR50) { check_reppoints(context, "net_reppoints_r50", {}); }
TEST_P(Networks, RepPointsR18GroupNormMinMax) {
  check_reppoints(
      context, "net_reppoints_r18_gn_minmax",
      {.backbone = {.depth = 18}, .neck = {.norm = "group"}, .head = {.norm = "group", .transform = "minmax"}});
}

const json& fcos_vectors() {
  static const json all = testing::read_vectors("fcos_networks");
  return all;
}

ModelConfig fcos_r50(FcosConfig head, bool caffe = true) {
  ModelConfig config{
      .detector = "fcos", .neck = {.extra = "on_output", .relu_before_extra = true}, .fcos = std::move(head)};
  config.backbone.norm_trainable = false;
  if (caffe) config.backbone.style = "caffe";
  return config;
}
const FcosConfig kImproved{
    .conv_bias = true, .center_radius = 1.5, .norm_on_bbox = true, .centerness_on_reg = true, .box_loss = "giou"};

void check_fcos(Context& context, const std::string& key, ModelConfig config) {
  const json& example = fcos_vectors()[key];
  const json& expected = example["expected"];
  for (const auto& [name, want] : expected["train"].items()) {
    SCOPED_TRACE(key + " " + name);
    config.loss = {.type = "cross_entropy"};
    if (name == "focal") config.loss = {.type = "focal", .focal = {.gamma = 2, .alpha = 0.25}};
    Detector detector(context, config, example["inputs"]["num_classes"]);
    fill_parameters(detector.parameters());
    Tape tape(context, Tape::Mode::inspection);
    expect_losses(detector, tape, example["inputs"], want);

    const auto told = [&](const std::string& what) -> const Tensor& {
      return tape.noted("targets." + what).node().value;
    };
    EXPECT_EQ(assignment_of(context, told("labels")), testing::flatten<int>(want["info"]["labels"]));
    EXPECT_EQ(context.download<double>(told("class_normalizer"))[0], want["info"]["num_pos"].get<double>());
    EXPECT_TRUE(near(context.download<double>(told("box_normalizer"))[0], want["info"]["centerness_sum"], 0, 1e-6));
    expect_gradients(detector, tape, want);
  }

  Detector detector(context, config, example["inputs"]["num_classes"]);
  fill_parameters(detector.parameters());
  Tape tape(context, Tape::Mode::inspection);
  const Predictions predicted = detector.predict(tape, input_of(tape, example["inputs"]["image"]));
  size_t i = 0;
  for (size_t l = 0; l < predicted.level_rows.size(); ++l)
    for (const char* output : {"cls_out", "distances", "centerness"}) {
      Tensor& value = tape.noted("bbox_head.level" + std::to_string(l) + "." + output).node().value;
      if (config.fcos.norm_on_bbox && std::string(output) == "distances")  // the example has them in pixels
        for (float& v : value.view().span()) v *= static_cast<float>(8 << l);
      expect_summary(value, context, expected["eval_outputs"][i], example["tol"], key + " output " + std::to_string(i));
      ++i;
    }
  if (expected.contains("detections_image0_3x"))
    expect_detections(detector, example["inputs"], expected["detections_image0_3x"], key);
  config.test.keep_empty_boxes = true;
  Detector as_2x(context, config, example["inputs"]["num_classes"]);
  fill_parameters(as_2x.parameters());
  expect_detections(as_2x, example["inputs"], expected["detections_image0"], key + ", empty boxes kept");
}

// Through the best library alone: the plain loops have done both kinds of convolution above.
TEST(FcosNetworks, R50Caffe) {
  Context context(2);
  check_fcos(context, "net_fcos_r50_caffe", fcos_r50({}));
}
TEST(FcosNetworks, R50CaffeImproved) {
  Context context(2);
  ModelConfig config = fcos_r50(kImproved);
  config.test.nms_iou = 0.6;
  check_fcos(context, "net_fcos_r50_caffe_improved", config);
}

TEST(Costs, OfFcosMatchTheLiterature) {
  const json& costs = fcos_vectors()["parameter_counts"]["expected"];
  check_costs(costs, "fcos_r50", fcos_r50({}), 10, true);
  check_costs(costs, "fcos_r50_improved", fcos_r50(kImproved), 10, true);
  check_costs(costs, "fcos_r50_pytorch", fcos_r50({}, false), 10, true);
  check_costs(costs, "fcos_r50_coco80", fcos_r50({}), 80, true);
}

TEST(Costs, MatchTheLiterature) {
  const json& costs = vectors()["parameter_counts"]["expected"];
  check_costs(costs, "reppoints_r50", {}, 10, true);
  check_costs(costs, "reppoints_r50_coco80", {}, 80, true);
  check_costs(costs, "reppoints_r50_gn", {.neck = {.norm = "group"}, .head = {.norm = "group"}}, 10, true);
  check_costs(costs, "reppoints_r18", {.backbone = {.depth = 18}}, 10, true);
  check_costs(costs, "resnet18", {.backbone = {.depth = 18}}, 10, false);
  check_costs(costs, "resnet34", {.backbone = {.depth = 34}}, 10, false);
  check_costs(costs, "resnet50", {.backbone = {.depth = 50}}, 10, false);
  check_costs(costs, "resnet50_caffe", {.backbone = {.depth = 50, .style = "caffe"}}, 10, false);
  check_costs(costs, "resnet101", {.backbone = {.depth = 101}}, 10, false);
}

}  // namespace
}  // namespace gradlibra
