// SPDX-License-Identifier: MIT
// Training steps of a whole, tiny detector: bounded memory, the same bits, and that it learns.
#include "models/detector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/training/optimizer.h"
#include "tests/kernels/vectors.h"
#include "tests/messages.h"
#include "tests/models/filler.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

ModelConfig tiny(bool batch_statistics = false) {
  return {.backbone = {.depth = 18, .base_channels = 4, .frozen_stages = -1, .norm_eval = !batch_statistics},
          .neck = {.out_channels = 8},
          .head = {.feat_channels = 8, .point_channels = 8, .stacked_convs = 1, .norm = "group", .norm_groups = 4}};
}

// Two images of 64 x 64 with two boxes and one.
struct Training {
  Training(Context& c, const ModelConfig& config)
      : context(c), detector(c, config, 3), optimizer(detector.parameters(), {.clip_norm = 10}) {
    detector.parameters().initialize(11);
    const Floats boxes{8, 8, 40, 44, 20, 30, 60, 62, 4, 10, 30, 30, 0, 0, 0, 0};
    truth = {context.upload<float>(boxes, {2, 2, 4}),
             context.upload<int32_t>(std::vector<int32_t>{0, 2, 1, -1}, {2, 2}),
             context.upload<int32_t>(std::vector<int32_t>{2, 1}, {2})};
  }
  double step(double lr = 0.02) {
    Tape tape(context);
    const Floats image = testing::filled_nhwc("image", 2, 3, 64, 64, -2, 2);
    const auto terms = detector.loss(tape, tape.constant(context.upload<float>(image, {2, 64, 64, 3})), truth, alone);
    double total = 0;
    for (const LossTerm& term : terms) total += context.download<double>(term.value)[0];
    tape.backward();
    detector.parameters().finish_backward();
    optimizer.set_lr(lr);
    optimizer.update();
    return total;
  }
  // Everything that a step changes.
  Floats state() {
    Floats all = context.download<float>(detector.parameters().flat_velocities());
    for (const Parameter& p : detector.parameters().all()) {
      const Floats values = context.download<float>(p.node.value);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  Context& context;
  Detector detector;
  Optimizer optimizer;
  GroundTruth truth;
  SingleProcess alone;
};

TEST(Detector, MemoryDoesNotGrowAndTheLossFalls) {
  Context context(1);
  Training training(context, tiny());
  int64_t reserved = 0, in_use = 0, peak = 0;
  double first = 0, last = 0;
  for (int step = 1; step <= 50; ++step) {
    last = training.step();
    ASSERT_TRUE(std::isfinite(last)) << step;
    if (step == 1) first = last;
    if (step == 5) {
      reserved = context.memory().bytes_reserved();
      in_use = context.memory().bytes_in_use();
      peak = context.memory().peak_bytes_in_use();
    }
  }
  EXPECT_EQ(context.memory().bytes_reserved(), reserved);
  EXPECT_EQ(context.memory().bytes_in_use(), in_use);
  EXPECT_EQ(context.memory().peak_bytes_in_use(), peak);
  EXPECT_LT(last, 0.8 * first);
}

Floats state_after(int threads, ConvolutionLibrary library) {
  Context context(threads, library);
  Training training(context, tiny(true));
  for (int step = 0; step < 3; ++step) (void)training.step();
  return training.state();
}

TEST(Detector, PlainLoopsGiveTheSameBitsForEveryNumberOfThreads) {
  const Floats one = state_after(1, ConvolutionLibrary::plain);
  EXPECT_TRUE(testing::same_bits(state_after(2, ConvolutionLibrary::plain), one));
  EXPECT_TRUE(testing::same_bits(state_after(3, ConvolutionLibrary::plain), one));
  for (const float v : one) ASSERT_TRUE(std::isfinite(v));
}

// Whatever number of threads other contexts of the process use.
TEST(Detector, TheBestLibraryGivesTheSameBitsInEveryRun) {
  const Floats first = state_after(2, ConvolutionLibrary::best);
  (void)state_after(1, ConvolutionLibrary::best);
  EXPECT_TRUE(testing::same_bits(state_after(2, ConvolutionLibrary::best), first));
}

// The names are MMDetection's, and say the same.
TEST(Detector, RolesAndSectionsOfParameters) {
  Context context(1);
  ModelConfig config = tiny();
  config.neck.norm = "group";
  config.neck.norm_groups = 4;
  for (const ModelConfig& model : {tiny(), config}) {
    const Detector detector(context, model, 3);
    for (const Parameter& p : detector.parameters().all()) {
      const auto has = [&](const char* part) { return p.name.find(part) != std::string::npos; };
      const bool norm = has(".bn") || has(".gn.") || has(".downsample.1."), weight = p.name.ends_with(".weight");
      const Role want = has(".running_mean")        ? Role::running_mean
                        : has(".running_var")       ? Role::running_variance
                        : norm                      ? (weight ? Role::norm_scale : Role::norm_shift)
                        : weight                    ? Role::convolution_weight
                        : p.name.ends_with(".bias") ? Role::bias
                                                    : Role::other;
      EXPECT_EQ(p.role, want) << p.name;
      EXPECT_EQ(p.layout == FileLayout::convolution, want == Role::convolution_weight) << p.name;
      EXPECT_EQ(p.section, p.name.starts_with("backbone.") ? Section::backbone
                           : p.name.starts_with("neck.")   ? Section::neck
                                                           : Section::head)
          << p.name;
    }
  }
}

TEST(Detector, StartDependsOnTheSeed) {
  Context context(1);
  Detector detector(context, tiny(), 3);
  const auto values = [&](uint64_t seed) {
    detector.parameters().initialize(seed);
    return context.download<float>(detector.parameters().find("bbox_head.cls_convs.0.conv.weight")->node.value);
  };
  const Floats a = values(1), b = values(2);
  EXPECT_NE(a, b);
  EXPECT_EQ(values(1), a);
}

TEST(Detector, FindsBoxesInsideTheContent) {
  Context context(1);
  Detector detector(context, tiny(), 3);
  testing::fill_parameters(detector.parameters());
  Tape tape(context, Tape::Mode::inference);
  const Floats image = testing::filled_nhwc("image", 2, 3, 64, 64, -2, 2);
  const std::vector<int32_t> sizes{64, 64, 40, 50};  // the second image is padded
  const auto found = detector.detect(tape, tape.constant(context.upload<float>(image, {2, 64, 64, 3})), sizes);
  ASSERT_EQ(found.size(), 2u);
  for (size_t n = 0; n < 2; ++n) {
    ASSERT_FALSE(found[n].empty());
    ASSERT_LE(found[n].size(), 100u);
    for (size_t i = 0; i < found[n].size(); ++i) {
      const ScoredBox& box = found[n][i];
      EXPECT_TRUE(box.x1 >= 0 && box.y1 >= 0 && box.x1 < box.x2 && box.y1 < box.y2);
      EXPECT_TRUE(box.x2 <= static_cast<float>(sizes[2 * n + 1]) && box.y2 <= static_cast<float>(sizes[2 * n]));
      EXPECT_TRUE(box.label >= 0 && box.label < 3);
      if (i > 0) {
        EXPECT_GE(found[n][i - 1].score, box.score);
      }
    }
  }
}

TEST(Detector, CostsComputeNothing) {
  Context context(1);
  Detector detector(context, tiny(), 3);
  const int64_t reserved = context.memory().bytes_reserved();
  int64_t multiply_adds = 0;
  for (const auto& part : detector.costs(4096, 4096)) multiply_adds += part.multiply_adds;
  EXPECT_GT(multiply_adds, 1'000'000'000);
  EXPECT_EQ(context.memory().bytes_reserved(), reserved);
}

TEST(Detector, NormalisesImages) {
  Context context(1);
  ModelConfig config = tiny();
  config.pixel_mean = {10, 20, 30};
  config.pixel_std = {2, 4, 5};
  for (const char* order : {"rgb", "bgr"}) {
    config.pixel_order = order;
    const Detector detector(context, config, 1);
    std::vector<uint8_t> pixels(32 * 32 * 3, 0);
    pixels[0] = 12;
    pixels[1] = 28;
    pixels[2] = 35;
    Tape tape(context, Tape::Mode::inspection);
    const Var input = detector.normalize(
        tape, {context.upload<uint8_t>(pixels, {1, 32, 32, 3}), context.upload<int32_t>(std::vector<int32_t>{0}, {1}),
               context.upload<int32_t>(std::vector<int32_t>{32, 32}, {1, 2})});
    const Floats values = context.download<float>(input.node().value);
    // Mean and deviation stand in the network's order of channels.
    const Floats want = std::string(order) == "rgb" ? Floats{1, 2, 1} : Floats{12.5f, 2, -3.6f};
    for (size_t c = 0; c < 3; ++c) EXPECT_FLOAT_EQ(values[c], want[c]) << order << c;
    ASSERT_EQ(tape.noted().size(), 1u);
    EXPECT_EQ(tape.noted()[0].first, "input");
  }
}

// A head of one scale per level: its loss is the sum of a level's first row of means, its scores are constants.
class FakeHead final : public Head {
 public:
  FakeHead(ParameterStore& store, const Pyramid& pyramid, const ClassInfo& classes)
      : pyramid_(pyramid), classes_(classes.count()), conv_(store, "fake.conv", pyramid.channels, 4, {.kernel = 1}) {
    counts_ = store.context().zeros({2}, DType::f64);
  }
  std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth&, Communicator&) override {
    const Predictions found = predict(tape, levels);
    const int64_t N = found.boxes.dim(0), P = found.boxes.dim(1);
    const double one = 1;
    const std::vector<float> weights(static_cast<size_t>(N * P), 1.0f), scales(static_cast<size_t>(P), 1.0f);
    Context& context = tape.context();
    std::vector<LossTerm> terms;
    terms.push_back({"loss_fake",
                     ops::smooth_l1(tape, found.boxes, context.zeros({N, P, 4}), context.upload<float>(weights, {N, P}),
                                    context.upload<float>(scales, {P}), 1, 1, context.upload<double>({&one, 1}, {1}))});
    return terms;
  }
  Predictions predict(Tape& tape, std::span<const Var> levels) override {
    std::vector<Var> maps;
    Predictions result;
    for (const Var& level : levels) {
      EXPECT_EQ(level.dim(3), pyramid_.channels);
      maps.push_back(conv_(tape, level));
      result.level_rows.push_back(level.dim(1) * level.dim(2));
    }
    result.boxes = ops::concat_levels(tape, maps);
    result.scores = tape.buffer({result.boxes.dim(0), result.boxes.dim(1), classes_});
    tape.run([&](auto& device) { kernels::fill(device, result.scores.view(), 0.5f); });
    return result;
  }
  std::vector<TrainingState> state() override { return {{"fake.counts", &counts_}}; }

 private:
  Pyramid pyramid_;
  int classes_;
  ConvLayer conv_;
  Tensor counts_;
};

TEST(Detector, TakesAnyHead) {
  Context context(1);
  Pyramid built_on;
  Detector detector(context, tiny(), unknown_classes(4), [&](ParameterStore& store, const Pyramid& pyramid) {
    built_on = pyramid;
    return std::make_unique<FakeHead>(store, pyramid, unknown_classes(4));
  });
  EXPECT_EQ(built_on.channels, 8);
  EXPECT_EQ(built_on.strides, (std::vector<int>{8, 16, 32, 64, 128}));
  EXPECT_EQ(detector.classes().count(), 4);
  ASSERT_EQ(detector.state().size(), 1u);
  EXPECT_EQ(detector.state()[0].name, "fake.counts");
  EXPECT_EQ(detector.parameters().find("bbox_head.cls_convs.0.conv.weight"), nullptr);
  testing::fill_parameters(detector.parameters());

  const Floats image = testing::filled_nhwc("image", 1, 3, 64, 64, -2, 2);
  Tape tape(context);
  SingleProcess alone;
  const auto terms = detector.loss(tape, tape.constant(context.upload<float>(image, {1, 64, 64, 3})), {}, alone);
  ASSERT_EQ(terms.size(), 1u);
  EXPECT_EQ(terms[0].name, "loss_fake");
  tape.backward();
  detector.parameters().finish_backward();
  const auto moved = [&](const char* name) {
    const Floats grad = context.download<float>(detector.parameters().find(name)->node.grad);
    return std::any_of(grad.begin(), grad.end(), [](float v) { return v != 0; });
  };
  EXPECT_TRUE(moved("fake.conv.weight"));
  EXPECT_TRUE(moved("neck.fpn_convs.0.conv.weight"));
  EXPECT_TRUE(moved("backbone.layer4.0.conv1.weight"));

  Tape detecting(context, Tape::Mode::inference);
  const auto found = detector.detect(detecting, detecting.constant(context.upload<float>(image, {1, 64, 64, 3})),
                                     std::vector<int32_t>{64, 64});
  ASSERT_EQ(found.size(), 1u);
  for (const ScoredBox& box : found[0]) EXPECT_EQ(box.score, 0.5f);
  int64_t in_head = 0;
  for (const auto& part : detector.costs(64, 64))
    if (part.part == "fake.conv") in_head = part.multiply_adds;
  EXPECT_EQ(in_head, (64 + 16 + 4 + 1 + 1) * 8 * 4);
}

TEST(Detector, ErrorsNameTheKey) {
  Context context(1);
  const auto failure = [&](const ModelConfig& config, int classes = 3) {
    return message_of<std::invalid_argument>([&] { const Detector detector(context, config, classes); });
  };
  const auto with = [](auto&& change) {
    ModelConfig config = tiny();
    change(config);
    return config;
  };
  EXPECT_NE(failure(tiny(), 0).find("class"), std::string::npos);
  const std::string unknown = failure(with([](auto& c) { c.detector = "anchors"; }));
  EXPECT_NE(unknown.find("model.detector"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("reppoints"), std::string::npos) << unknown;
  EXPECT_NE(failure(with([](auto& c) { c.pixel_mean = {1}; })).find("model.pixel_mean"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.backbone.depth = 19; })).find("model.backbone.depth"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.start_level = 4; })).find("model.neck.start_level"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.start_level = -1; })).find("model.neck.start_level"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.num_outs = 2; })).find("model.neck.num_outs"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.head.norm_groups = 3; })).find("norm_groups"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.head.num_points = 12; })).find("model.head.num_points"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.loss.grad_libra.alpha_pos = "x"; })).find("model.loss.alpha_pos"),
            std::string::npos);
}

}  // namespace
}  // namespace gradlibra
