// SPDX-License-Identifier: MIT
// Whole networks against worked examples in double precision: outputs, assignments, losses, gradient norms, detections,
// sizes. Each runs through oneDNN (where built) and through the plain loops.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/detector.h"
#include "tests/models/filler.h"

namespace gradlibra {
namespace {

using nlohmann::json;
using testing::fill_parameters;
using testing::filled_nhwc;
using testing::near;

const json& vectors() {
  static const json all = testing::read_vectors("networks");
  return all;
}

// shape, sum and sum of magnitudes (relative to the latter), first and last four elements.
void expect_summary(const Tensor& tensor, Context& context, const json& want, double tol, const std::string& what) {
  SCOPED_TRACE(what);
  const auto shape = want["shape"].get<std::vector<int64_t>>();
  ASSERT_EQ(tensor.shape(), Shape(shape)) << tensor.shape().to_string();
  const std::vector<float> values = context.download<float>(tensor);
  double sum = 0, abs_sum = 0;
  for (const float v : values) sum += v, abs_sum += std::abs(v);
  const double scale = want["abs_sum"].get<double>();
  EXPECT_TRUE(near(sum, want["sum"], tol * scale));
  EXPECT_TRUE(near(abs_sum, scale, tol * scale));
  const double typical = std::max(1.0, scale / static_cast<double>(values.size()));
  for (size_t i = 0; i < want["first"].size(); ++i) EXPECT_TRUE(near(values[i], want["first"][i], tol * typical));
  const size_t tail = values.size() - want["last"].size();
  for (size_t i = 0; i < want["last"].size(); ++i) EXPECT_TRUE(near(values[tail + i], want["last"][i], tol * typical));
}

Var input_of(Tape& tape, const json& spec) {
  const auto s = spec[1].get<std::vector<int64_t>>();
  const auto values = filled_nhwc(spec[0], s[0], s[1], s[2], s[3], spec[2], spec[3]);
  return tape.constant(tape.context().upload<float>(values, {s[0], s[2], s[3], s[1]}));
}

class Networks : public ::testing::TestWithParam<ConvolutionLibrary> {
 protected:
  void SetUp() override {
    if (GetParam() == ConvolutionLibrary::best && context.device_name().find("oneDNN") == std::string::npos)
      GTEST_SKIP() << "built without oneDNN";
  }
  Context context{2, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Libraries, Networks, ::testing::Values(ConvolutionLibrary::best, ConvolutionLibrary::plain),
                         [](const auto& library) {
                           return library.param == ConvolutionLibrary::best ? "OneDnn" : "Plain";
                         });

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

GroundTruth truth_of(Context& context, const json& inputs) {
  const size_t N = inputs["gt"].size(), M = 5;  // padded beyond the largest count
  std::vector<float> boxes(N * M * 4, 0.0f);
  std::vector<int32_t> labels(N * M, -1), counts(N);
  for (size_t n = 0; n < N; ++n) {
    counts[n] = static_cast<int32_t>(inputs["gt"][n].size());
    for (size_t m = 0; m < inputs["gt"][n].size(); ++m) {
      for (size_t k = 0; k < 4; ++k) boxes[(n * M + m) * 4 + k] = inputs["gt"][n][m][k];
      labels[n * M + m] = inputs["labels"][n][m];
    }
  }
  const auto n = static_cast<int64_t>(N), m = static_cast<int64_t>(M);
  return {context.upload<float>(boxes, {n, m, 4}), context.upload<int32_t>(labels, {n, m}),
          context.upload<int32_t>(counts, {n})};
}

double norm_of(Context& context, const Tensor& t) {
  double sum = 0;
  for (const float v : context.download<float>(t)) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

std::vector<int> assignment_of(Context& context, const Tensor& assigned) {
  const auto values = context.download<int32_t>(assigned);
  return {values.begin(), values.end()};
}

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
    SingleProcess alone;
    const auto terms =
        detector.loss(tape, input_of(tape, example["inputs"]["image"]), truth_of(context, example["inputs"]), alone);
    double total = 0;
    for (const LossTerm& term : terms) {
      const double value = context.download<double>(term.value)[0], wanted = want["losses"][term.name];
      EXPECT_TRUE(near(value, wanted, 1e-4 * std::abs(wanted))) << term.name;
      total += value;
    }
    EXPECT_TRUE(near(total, want["total"], 1e-4 * want["total"].get<double>()));

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

    tape.backward();
    detector.parameters().finish_backward();
    const double all = norm_of(context, detector.parameters().flat_grads());
    EXPECT_TRUE(near(all, want["grad_norm_all"], 2e-3 * want["grad_norm_all"].get<double>()));
    for (const auto& [parameter, norm] : want["grad_norms"].items()) {
      const Parameter* p = detector.parameters().find(parameter);
      ASSERT_NE(p, nullptr) << parameter;
      ASSERT_TRUE(p->trainable) << parameter;
      EXPECT_TRUE(near(norm_of(context, p->node.grad), norm, 2e-3 * norm.get<double>())) << parameter;
    }
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
  Tape detecting(context, Tape::Mode::inference);
  const std::vector<int32_t> sizes(6, 64);
  const auto detections = detector.detect(detecting, input_of(detecting, example["inputs"]["image"]), sizes);
  ASSERT_EQ(detections.size(), 3u);
  EXPECT_EQ(detections[0].size(), expected["detections_image0"]["count"].get<size_t>());
  for (size_t d = 0; d < expected["detections_image0"]["top"].size(); ++d) {
    const json& want = expected["detections_image0"]["top"][d];
    const ScoredBox& got = detections[0][d];
    SCOPED_TRACE("detection " + std::to_string(d));
    EXPECT_TRUE(near(got.x1, want[0], 1e-3 * 64));
    EXPECT_TRUE(near(got.y1, want[1], 1e-3 * 64));
    EXPECT_TRUE(near(got.x2, want[2], 1e-3 * 64));
    EXPECT_TRUE(near(got.y2, want[3], 1e-3 * 64));
    EXPECT_TRUE(near(got.score, want[4], 1e-3));
    EXPECT_EQ(got.label, want[5].get<int>());
  }
}

TEST_P(Networks, RepPointsR50) { check_reppoints(context, "net_reppoints_r50", {}); }
TEST_P(Networks, RepPointsR18GroupNormMinMax) {
  check_reppoints(
      context, "net_reppoints_r18_gn_minmax",
      {.backbone = {.depth = 18}, .neck = {.norm = "group"}, .head = {.norm = "group", .transform = "minmax"}});
}

// Parameters and multiply-adds of every part at 512 x 512.
void check_costs(const std::string& key, const ModelConfig& config, int classes, bool whole) {
  SCOPED_TRACE(key);
  const json& expected = vectors()["parameter_counts"]["expected"][key];
  Context context(1);
  Detector detector(context, config, classes);
  std::map<std::string, int64_t> multiply_adds, parameters;
  for (const auto& part : detector.costs(512, 512)) {
    multiply_adds[part.part] = part.multiply_adds;
    parameters[part.part.substr(0, part.part.find('.'))] += part.parameters;
  }
  for (const auto& [module, macs] : expected["by_module"].items())
    EXPECT_EQ(multiply_adds[module], macs.get<int64_t>()) << module;
  EXPECT_EQ(parameters["backbone"], expected["params"]["backbone"].get<int64_t>());
  if (!whole) return;
  EXPECT_EQ(parameters["neck"], expected["params"]["neck"].get<int64_t>());
  EXPECT_EQ(parameters["bbox_head"], expected["params"]["head"].get<int64_t>());
  EXPECT_EQ(detector.parameters().parameter_count(), expected["total_params"].get<int64_t>());
}

TEST(Costs, MatchTheLiterature) {
  check_costs("reppoints_r50", {}, 10, true);
  check_costs("reppoints_r50_coco80", {}, 80, true);
  check_costs("reppoints_r50_gn", {.neck = {.norm = "group"}, .head = {.norm = "group"}}, 10, true);
  check_costs("reppoints_r18", {.backbone = {.depth = 18}}, 10, true);
  check_costs("resnet18", {.backbone = {.depth = 18}}, 10, false);
  check_costs("resnet34", {.backbone = {.depth = 34}}, 10, false);
  check_costs("resnet50", {.backbone = {.depth = 50}}, 10, false);
  check_costs("resnet50_caffe", {.backbone = {.depth = 50, .style = "caffe"}}, 10, false);
  check_costs("resnet101", {.backbone = {.depth = 101}}, 10, false);
}

}  // namespace
}  // namespace gradlibra
