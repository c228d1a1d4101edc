// SPDX-License-Identifier: MIT
// What `inspect step` writes: complete, in the order of axes that other frameworks have, and equal to what training
// computes.
#include "engine/step_dump.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/batches.h"
#include "engine/builder.h"
#include "runtime/training/weights.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

using Shape64 = std::vector<int64_t>;

class StepDump : public ::testing::Test {
 protected:
  StepDump() : config_(tiny_config(folder_ / "data")) {
    for (int i = 0; i < 3; ++i) {
      TinyImage image = tiny_image(i);
      if (i == 1) image.objects.push_back({"bar", "40", "38", "62", "60"});
      put_tiny(folder_ / "data", image);
    }
    config_.loader.width = 96;  // not square: a swap of axes shows; the images are padded on the right
    std::vector<Finding> findings;
    dataset_ = read_dataset(config_.data, Split::train, findings);
    detector_ = make();
  }
  [[nodiscard]] std::unique_ptr<Detector> make() {
    auto detector = std::make_unique<Detector>(context_, config_.model, 3);
    detector->parameters().initialize(11);
    return detector;
  }

  TemporaryFolder folder_;
  Context context_{1};
  ExperimentConfig config_;
  Dataset dataset_;
  std::unique_ptr<Detector> detector_;
};

TEST_F(StepDump, BatchOfTakesTheImagesAskedFor) {
  EXPECT_EQ(batch_of(dataset_, config_, {}).ids, (std::vector<std::string>{"tiny_000", "tiny_001"}));
  EXPECT_EQ(batch_of(dataset_, config_, {"tiny_002", "tiny_000", "tiny_001"}).ids,
            (std::vector<std::string>{"tiny_002", "tiny_000", "tiny_001"}));
  for (const int32_t orientation : batch_of(dataset_, config_, {}).orientations) EXPECT_EQ(orientation, 0);
  EXPECT_HAS(message_of([&] { static_cast<void>(batch_of(dataset_, config_, {"tiny_009"})); }), "'tiny_009'");
}

TEST_F(StepDump, NamesWhatIsNotFiniteFirst) {
  const Batch batch = batch_of(dataset_, config_, {});
  const auto first = [&] {
    const SafetensorsFile step = dump_step(*detector_, batch);
    const auto found = step.metadata.find("first_non_finite");
    return found == step.metadata.end() ? std::string() : found->second;
  };
  EXPECT_EQ(first(), "");
  // Finite weights whose points are finite in strides, and not in pixels: the boxes are the first to show it.
  const auto set = [&](const std::string& name, float value) {
    Parameter* p = detector_->parameters().find(name);
    ASSERT_NE(p, nullptr) << name;
    const View<float> values = p->node.value.view<float>();
    std::fill_n(values.data(), values.size(), value);
  };
  set("bbox_head.reppoints_pts_refine_out.weight", 3e38F);
  set("bbox_head.reppoints_pts_refine_out.bias", 3e38F);
  EXPECT_EQ(first(), "bbox_head.refine_boxes");
  detector_ = make();
  set("backbone.layer1.0.conv1.weight", std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(first(), "param/backbone.layer1.0.conv1.weight");
}

TEST_F(StepDump, NamesAndShapes) {
  const SafetensorsFile step = dump_step(*detector_, batch_of(dataset_, config_, {}));
  std::map<std::string, Shape64> expected{
      {"input", {2, 3, 64, 96}},
      {"gt.boxes", {2, 8, 4}},
      {"gt.labels", {2, 8}},
      {"gt.counts", {2}},
      {"backbone.stem", {2, 8, 32, 48}},
      {"backbone.c2", {2, 8, 16, 24}},
      {"backbone.c3", {2, 16, 8, 12}},
      {"backbone.c4", {2, 32, 4, 6}},
      {"backbone.c5", {2, 64, 2, 3}},
      {"neck.p3", {2, 16, 8, 12}},
      {"neck.p4", {2, 16, 4, 6}},
      {"neck.p5", {2, 16, 2, 3}},
      {"targets.init_assigned", {2, 126}},
      {"targets.refine_assigned", {2, 126}},
      {"targets.init_normalizer", {}},
      {"targets.refine_normalizer", {}},
      {"loss.loss_cls", {}},
      {"loss.loss_pts_init", {}},
      {"loss.loss_pts_refine", {}},
      {"param/backbone.conv1.weight", {8, 3, 7, 7}},
      {"grad/backbone.conv1.weight", {8, 3, 7, 7}},
      {"param/backbone.bn1.running_mean", {8}},
      {"param/backbone.layer2.0.downsample.0.weight", {16, 8, 1, 1}},
      {"grad/neck.lateral_convs.0.conv.weight", {16, 16, 1, 1}},
      {"param/bbox_head.reppoints_cls_out.weight", {3, 16, 1, 1}},
      {"grad/bbox_head.reppoints_cls_out.bias", {3}},
  };
  for (int l = 0; l < 3; ++l) {
    const std::string level = fmt::format("bbox_head.level{}.", l);
    const int64_t H = 8 >> l, W = 12 >> l;
    for (const auto& [name, channels] :
         {std::pair{"cls_feat", 16}, {"reg_feat", 16}, {"pts_init", 18}, {"cls_out", 3}, {"pts_refine", 18}}) {
      expected[level + name] = {2, channels, H, W};
      expected["grad/" + level + name] = {2, channels, H, W};
    }
  }
  for (const auto& [name, shape] : expected) {
    const auto found = step.tensors.find(name);
    if (found == step.tensors.end()) {
      ADD_FAILURE() << name << " is missing";
      continue;
    }
    EXPECT_EQ(found->second.shape, shape) << name;
  }
  for (const char* part : {"init", "refine"}) {
    const FileTensor& boxes = step.tensors.at(fmt::format("bbox_head.{}_boxes", part));
    EXPECT_EQ(boxes.size(), 2 * 126 * 4);
    EXPECT_EQ(boxes.shape.back(), 4);
    EXPECT_TRUE(step.tensors.contains(fmt::format("grad/bbox_head.{}_boxes", part)));
  }
  for (const Parameter& p : detector_->parameters().all()) {
    EXPECT_TRUE(step.tensors.contains("param/" + p.name)) << p.name;
    EXPECT_EQ(step.tensors.contains("grad/" + p.name), p.trainable) << p.name;
  }
  EXPECT_FALSE(step.tensors.contains("grad/input"));
  for (const auto& [name, tensor] : step.tensors) {
    if (tensor.dtype != FileDType::f32) continue;
    for (const float value : tensor.to_floats()) ASSERT_TRUE(std::isfinite(value)) << name;
  }
  EXPECT_EQ(step.metadata.at("images"), R"(["tiny_000","tiny_001"])");
  write_safetensors(folder_ / "step.safetensors", step);
  EXPECT_TRUE(read_safetensors(folder_ / "step.safetensors") == step);
}

TEST_F(StepDump, MapsAreChannelsFirst) {
  const Batch batch = batch_of(dataset_, config_, {});
  const SafetensorsFile step = dump_step(*detector_, batch);
  const std::vector<float> input = step.tensors.at("input").to_floats();
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t y = 0; y < 64; y += 7)
        for (int64_t x = 0; x < 96; x += 5) {
          const auto i = static_cast<size_t>(c);
          const double byte = batch.images[static_cast<size_t>(((n * 64 + y) * 96 + x) * 3 + c)];
          const double expected =
              x < 64 ? (byte - config_.model.pixel_mean[i]) / config_.model.pixel_std[i] : 0;  // padding is 0
          EXPECT_NEAR(input[static_cast<size_t>(((n * 3 + c) * 64 + y) * 96 + x)], expected, 1e-5)
              << n << c << y << " " << x;
        }
}

// The stem computed from the file alone, with weights as O, I, kh, kw and maps as N, C, H, W.
TEST_F(StepDump, TheFileExplainsItself) {
  config_.model.backbone.norm_eval = true;
  detector_ = make();
  const SafetensorsFile step = dump_step(*detector_, batch_of(dataset_, config_, {}));
  const auto values = [&](const std::string& name) { return step.tensors.at(name).to_floats(); };
  const auto at = [](int64_t a, int64_t b, int64_t c, int64_t d, int64_t B, int64_t C, int64_t D) {
    return static_cast<size_t>(((a * B + b) * C + c) * D + d);
  };
  // Convolution 7 x 7 / 2, norm with stored statistics, ReLU.
  const std::vector<float> x = values("input"), w = values("param/backbone.conv1.weight"),
                           stem = values("backbone.stem");
  const std::vector<float> mean = values("param/backbone.bn1.running_mean"),
                           var = values("param/backbone.bn1.running_var"), gamma = values("param/backbone.bn1.weight"),
                           beta = values("param/backbone.bn1.bias");
  const auto convolved = [&](int64_t n, int64_t o, int64_t py, int64_t px) {
    double sum = 0;
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t r = 0; r < 7; ++r)
        for (int64_t s = 0; s < 7; ++s) {
          const int64_t y = 2 * py - 3 + r, xx = 2 * px - 3 + s;
          if (y < 0 || y >= 64 || xx < 0 || xx >= 96) continue;
          sum += static_cast<double>(x[at(n, i, y, xx, 3, 64, 96)]) * w[at(o, i, r, s, 3, 7, 7)];
        }
    const auto c = static_cast<size_t>(o);
    return std::max(0.0, (sum - mean[c]) / std::sqrt(var[c] + 1e-5) * gamma[c] + beta[c]);
  };
  for (int64_t o = 0; o < 8; o += 3)
    for (const auto& [y, xx] : {std::pair<int64_t, int64_t>{0, 0}, {3, 5}, {31, 47}, {9, 30}, {20, 11}}) {
      const double expected = convolved(1, o, y, xx);
      EXPECT_NEAR(stem[at(1, o, y, xx, 8, 32, 48)], expected, 1e-4 * (1 + expected)) << o << " " << y << " " << xx;
    }
}

TEST_F(StepDump, EqualsATrainingStep) {
  const Batch batch = batch_of(dataset_, config_, {});
  const SafetensorsFile step = dump_step(*detector_, batch);

  const auto fresh = make();
  for (const Parameter& p : fresh->parameters().all())  // the weights that it ran with, running statistics too
    EXPECT_TRUE(step.tensors.at("param/" + p.name) == to_file_tensor(context_, p.node.value, p.layout)) << p.name;
  DeviceBatch device;
  upload(context_, batch, device);
  SingleProcess alone;
  Tape tape(context_);
  const std::vector<LossTerm> terms = fresh->loss(tape, fresh->normalize(tape, device.images), device.truth, alone);
  ASSERT_EQ(terms.size(), 3u);
  for (const LossTerm& term : terms) {
    const double value = context_.download<double>(term.value)[0];
    EXPECT_GT(value, 0) << term.name;
    EXPECT_EQ(step.tensors.at("loss." + term.name).values<double>()[0], value) << term.name;
  }
  tape.backward();
  fresh->parameters().finish_backward();
  int not_zero = 0;
  for (const Parameter& p : fresh->parameters().all()) {
    if (!p.trainable) continue;
    const FileTensor grad = to_file_tensor(context_, p.node.grad, p.layout);
    EXPECT_TRUE(step.tensors.at("grad/" + p.name) == grad) << p.name;
    for (const float value : grad.to_floats()) not_zero += value != 0;
  }
  EXPECT_GT(not_zero, fresh->parameters().trainable_count() /
                          10);  // the inner convolutions of blocks that start as their shortcut have none
}

// The same batch again goes on where the first step left the state.
TEST_F(StepDump, StateOfTheLossBeforeAndAfter) {
  config_.train.class_gradients = true;  // diagnostics are no state that a step depends on
  for (const auto& [type, states] :
       std::map<std::string, std::vector<std::string>>{{"grad_libra", {}},
                                                       {"class_balanced", {"class_balanced.weights"}},
                                                       {"eqlv2", {"eqlv2.gradients", "eqlv2.ratios"}},
                                                       {"seesaw", {"seesaw.counts"}},
                                                       {"bags", {"bags.groups", "bags.sampling"}}}) {
    SCOPED_TRACE(type);
    config_.model.loss.type = type;
    config_.model.loss.bags.edges = {2};
    const Training training = build_training(context_, config_, class_info(dataset_));
    const Batch batch = batch_of(dataset_, config_, {});
    const SafetensorsFile first = dump_step(*training.detector, batch), second = dump_step(*training.detector, batch);
    const auto with = [](const SafetensorsFile& file, const std::string& prefix) {
      std::map<std::string, FileTensor> found;
      for (const auto& [name, tensor] : file.tensors)
        if (name.starts_with(prefix)) found.emplace(name.substr(prefix.size()), tensor);
      return found;
    };
    std::vector<std::string> names;
    for (const auto& [name, tensor] : with(first, "state/")) names.push_back(name);
    EXPECT_EQ(names, states);
    EXPECT_TRUE(with(first, "next/") == with(second, "state/"));
    const bool moves = type == "eqlv2" || type == "seesaw" || type == "bags";
    EXPECT_EQ(with(first, "state/") == with(first, "next/"), !moves);
    EXPECT_EQ(first.tensors.at("gt.instances").values<int64_t>(), class_info(dataset_).instances);
  }
}

TEST_F(StepDump, TargetsBelongToTheBoxes) {
  const SafetensorsFile step = dump_step(*detector_, batch_of(dataset_, config_, {"tiny_000", "tiny_001"}));
  EXPECT_EQ(step.tensors.at("gt.counts").values<int32_t>(), (std::vector<int32_t>{1, 2}));
  const auto init = step.tensors.at("targets.init_assigned").values<int32_t>(),
             refine = step.tensors.at("targets.refine_assigned").values<int32_t>();
  for (size_t n = 0; n < 2; ++n) {
    const int32_t boxes = n == 0 ? 1 : 2;
    std::vector<int> positives(3);
    for (size_t p = 0; p < 126; ++p) {
      const int32_t k = init[n * 126 + p];
      ASSERT_TRUE(k >= -1 && k <= boxes) << k;  // -1: a cell in the padding
      if (k > 0) ++positives[static_cast<size_t>(k)];
      const int32_t r = refine[n * 126 + p];
      ASSERT_TRUE(r >= -1 && r <= boxes) << r;
    }
    for (int32_t k = 1; k <= boxes; ++k)
      EXPECT_EQ(positives[static_cast<size_t>(k)], 1) << "init_pos_num points per box";
  }
  EXPECT_EQ(step.tensors.at("targets.init_normalizer").values<double>()[0], 3.0);
}

}  // namespace
}  // namespace gradlibra
