// SPDX-License-Identifier: MIT
// From what distribution every parameter of every detector is drawn: a table of names, as in the papers and in
// MMDetection.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <regex>

#include "models/detector.h"

namespace gradlibra {
namespace {

// Where a parameter starts. uniform: within +-value; normal: value is the deviation.
struct Start {
  enum class Kind { constant, normal, uniform } kind = Kind::constant;
  double value = 0;
};
// Of a convolution: taps k * k, channels that go in and that come out.
struct Fan {
  double taps = 1, in = 1, out = 1;
};
struct Row {
  std::regex name;
  std::function<Start(const Fan&)> start;
};

Start normal(double deviation) { return {Start::Kind::normal, deviation}; }
Start uniform(double bound) { return {Start::Kind::uniform, bound}; }
Row constant(const char* name, double value) {
  return {std::regex(name), [value](const Fan&) { return Start{Start::Kind::constant, value}; }};
}

// The first row whose pattern is the whole name counts.
std::vector<Row> table(bool uniform_deformable) {
  const auto kaiming_fan_out = [](const Fan& f) { return normal(std::sqrt(2 / (f.taps * f.out))); };
  const auto xavier = [](const Fan& f) { return uniform(std::sqrt(6 / (f.taps * (f.in + f.out)))); };
  const auto caffe2_xavier = [](const Fan& f) { return uniform(std::sqrt(3 / (f.taps * f.in))); };
  const auto hundredth = [](const Fan&) { return normal(0.01); };
  const auto deformable = [=](const Fan& f) {
    return uniform_deformable ? uniform(std::sqrt(6 / (f.taps * f.in))) : normal(0.01);
  };
  return {
      {std::regex(R"(backbone\.(conv1|layer.*\.conv\d|layer.*\.downsample\.0)\.weight)"), kaiming_fan_out},
      constant(R"(backbone\.layer.*\.bn2\.weight)", 0),  // the last one of a basic block
      {std::regex(R"(neck\.(lateral|fpn)_convs\.\d\.conv\.weight)"), xavier},
      {std::regex(R"(neck\.(lateral|fpn)_conv\.weight)"), caffe2_xavier},
      {std::regex(R"(neck\.dilated_encoder_blocks\..*\.conv\.weight)"), hundredth},
      {std::regex(R"(bbox_head\.reppoints_(cls|pts_refine)_conv\.weight)"), deformable},
      {std::regex(R"(bbox_head\.(cls|reg)_convs\.\d\.conv\.weight)"), hundredth},
      {std::regex(R"(bbox_head\.(cls|bbox)_subnet\.\d\.conv\.weight)"), hundredth},
      {std::regex(R"(bbox_head\.(reppoints|conv|atss)_[a-z_]+\.weight)"), hundredth},
      {std::regex(R"(bbox_head\.(cls_score|bbox_pred|object_pred)\.weight)"), hundredth},
      constant(R"(bbox_head\.(reppoints_cls_out|conv_cls|atss_cls|cls_score)\.bias)", -std::log(99.0)),
      constant(R"(bbox_head\.scales\.\d\.scale)", 1),
      constant(R"(.*(bn|bn\d|downsample\.1|_norm|gn)\.(weight|running_var))", 1),
      constant(R"(.*\.(bias|running_mean)|bbox_head\.moment_transfer)", 0),
  };
}

void expect_start(const std::vector<float>& values, const Start& want) {
  if (want.kind == Start::Kind::constant) {
    for (const float v : values) ASSERT_NEAR(v, want.value, 1e-6);
    return;
  }
  double squares = 0, most = 0;
  for (const float v : values) squares += double{v} * v, most = std::max(most, std::abs(double{v}));
  const auto n = static_cast<double>(values.size());
  const bool is_uniform = want.kind == Start::Kind::uniform;
  const double deviation = is_uniform ? want.value / std::sqrt(3.0) : want.value;
  // The few values of a small layer scatter more: four deviations of their root mean square.
  EXPECT_NEAR(std::sqrt(squares / n) / deviation, 1, std::max(0.03, 4 / std::sqrt(2 * n)));
  if (is_uniform) {
    EXPECT_LE(most, want.value * 1.0001);
  } else if (n > 500) {
    EXPECT_GT(most, 2.5 * deviation);  // beyond any uniform one, whose bound is 1.73
  }
}

TEST(StartValues, OfEveryDetector) {
  ModelConfig reppoints{.backbone = {.depth = 18, .base_channels = 16}, .neck = {.out_channels = 32}};
  reppoints.head.feat_channels = reppoints.head.point_channels = 32;
  reppoints.fcos.feat_channels = reppoints.atss.feat_channels = 32;
  reppoints.fcos.norm_groups = reppoints.atss.norm_groups = 4;
  reppoints.yolof.encoder = {.channels = 32, .block_channels = 24};
  ModelConfig deformable_normal = reppoints, fcos = reppoints, atss = reppoints, yolof = reppoints;
  deformable_normal.head.deform_init = "normal";
  fcos.detector = "fcos";
  atss.detector = "atss";
  yolof.detector = "yolof";
  for (const ModelConfig& config : {reppoints, deformable_normal, fcos, atss, yolof}) {
    Context context(1);
    Detector detector(context, config, 3);
    detector.parameters().initialize(1);
    const std::vector<Row> rows = table(config.head.deform_init == "uniform");
    for (const Parameter& p : detector.parameters().all()) {
      SCOPED_TRACE(config.detector + " " + config.head.deform_init + " " + p.name);
      Fan fan;
      const Shape& shape = p.node.value.shape();
      if (p.role == Role::convolution_weight)
        fan = {static_cast<double>(shape[1] * shape[2]), static_cast<double>(shape[3]), static_cast<double>(shape[0])};
      const auto row =
          std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return std::regex_match(p.name, r.name); });
      ASSERT_NE(row, rows.end());
      expect_start(context.download<float>(p.node.value), row->start(fan));
    }
  }
}

}  // namespace
}  // namespace gradlibra
