// SPDX-License-Identifier: MIT
// Training steps of a whole, tiny detector: bounded memory, the same bits, and that it learns.
#include "models/detector.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/optimizer.h"
#include "tests/kernels/vectors.h"
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
    optimizer.step(lr, alone);
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
    ASSERT_EQ(tape.named().size(), 1u);
    EXPECT_EQ(tape.named()[0].first, "input");
  }
}

TEST(Detector, ErrorsNameTheKey) {
  Context context(1);
  const auto failure = [&](ModelConfig config, int classes = 3) -> std::string {
    try {
      const Detector detector(context, config, classes);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  const auto with = [](auto&& change) {
    ModelConfig config = tiny();
    change(config);
    return config;
  };
  EXPECT_NE(failure(tiny(), 0).find("class"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.pixel_mean = {1}; })).find("model.pixel_mean"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.backbone.depth = 19; })).find("model.backbone.depth"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.start_level = 4; })).find("model.neck.start_level"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.start_level = -1; })).find("model.neck.start_level"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.neck.num_outs = 2; })).find("model.neck.num_outs"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.head.norm_groups = 3; })).find("norm_groups"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.head.num_points = 12; })).find("model.head.num_points"), std::string::npos);
  EXPECT_NE(failure(with([](auto& c) { c.loss.alpha_pos = "x"; })).find("model.loss.alpha_pos"), std::string::npos);
}

}  // namespace
}  // namespace gradlibra
