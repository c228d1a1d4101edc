// SPDX-License-Identifier: MIT
// The training step and the trainer on two ranks: the update of one rank with the whole batch, one decision for all,
// one voice.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "engine/train_step.h"
#include "engine/trainer.h"
#include "tests/engine/noise_batch.h"
#include "tests/engine/thread_ranks.h"
#include "tests/engine/tiny_experiment.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using testing::ThreadRanks;
using Floats = std::vector<float>;

constexpr int64_t kSide = 32, kMaxBoxes = 2;
constexpr int kClasses = 3;

ModelConfig tiny_model(const std::string& loss) {
  ModelConfig model;
  model.loss.type = loss;
  model.backbone = {.depth = 18, .base_channels = 4, .frozen_stages = 1, .norm_eval = true};
  model.neck = {.out_channels = 8, .num_outs = 4, .norm = "group", .norm_groups = 4};
  model.head = {.feat_channels = 8, .point_channels = 8, .stacked_convs = 1, .norm = "group", .norm_groups = 2};
  model.loss.record_gradients = true;
  return model;
}

// Image `first` and those behind it, the same whatever batch they stand in.
Batch images(int first, int count) {
  Batch batch = testing::empty_batch(kSide, kMaxBoxes);
  for (int i = first; i < first + count; ++i)
    testing::add_noise_image(batch, static_cast<uint32_t>(i), 0, [i](std::mt19937&) {
      const auto x = static_cast<float>(4 + 3 * i);
      return std::vector<testing::TargetBox>{{{x, 5, x + 12, 20}, i % kClasses}};
    });
  return batch;
}

// One rank's side of a training.
struct Rank {
  explicit Rank(Communicator& ranks, const std::string& loss = "grad_libra")
      : detector(context, tiny_model(loss), ClassInfo{{"a", "b", "c"}, {20000, 7000, 30}}),
        optimizer(detector.parameters(), {.clip_norm = 10}),
        step(detector, optimizer, ranks, {}) {
    detector.parameters().initialize(3);
  }
  TrainStep::Result train(const Batch& batch) {
    step.stage(batch);
    step.enqueue(0.05);
    return step.wait();
  }
  Floats weights() {
    Floats all;
    for (const Parameter& p : detector.parameters().all()) {
      const Floats values = context.download<float>(p.node.value);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  // What the loss accumulates.
  std::vector<double> state() {
    std::vector<double> all;
    for (const TrainingState& part : detector.state()) {
      const std::vector<double> values = context.download<double>(*part.values);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  Context context{1, ConvolutionLibrary::plain};
  Detector detector;
  Optimizer optimizer;
  TrainStep step;
};

class RanksWith : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Losses, RanksWith, ::testing::Values("grad_libra", "class_balanced", "eqlv2", "seesaw"),
                         [](const auto& loss) { return std::string(loss.param); });

TEST_P(RanksWith, HalvesOfABatchUpdateAsTheWhole) {
  constexpr int kSteps = 3;
  SingleProcess alone;
  Rank whole(alone, GetParam());
  std::vector<TrainStep::Result> want, got[2];
  for (int i = 0; i < kSteps; ++i) want.push_back(whole.train(images(2 * i, 2)));
  Floats weights[2];
  std::vector<double> states[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const auto r = static_cast<size_t>(ranks.rank());
    Rank half(ranks, GetParam());
    for (int i = 0; i < kSteps; ++i) got[r].push_back(half.train(images(2 * i + ranks.rank(), 1)));
    weights[r] = half.weights();
    states[r] = half.state();
  });
  EXPECT_EQ(weights[0], weights[1]) << "ranks drift apart";
  EXPECT_EQ(states[0], states[1]) << "what the loss accumulates drifts apart";
  const std::vector<double> state = whole.state();
  ASSERT_EQ(states[0].size(), state.size());
  for (size_t i = 0; i < state.size(); ++i) EXPECT_NEAR(states[0][i], state[i], 1e-3 * (1e-3 + state[i])) << i;
  const Floats all = whole.weights();
  ASSERT_EQ(weights[0].size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(weights[0][i], all[i], 1e-5) << i;
  for (size_t i = 0; i < kSteps; ++i) {
    EXPECT_EQ(got[0][i].losses, got[1][i].losses);
    EXPECT_EQ(got[0][i].grad_norm, got[1][i].grad_norm);
    EXPECT_NEAR(got[0][i].total, want[i].total, 1e-4 * want[i].total);
    EXPECT_NEAR(got[0][i].own_total + got[1][i].own_total, got[0][i].total, 1e-12);
    EXPECT_NE(got[0][i].own_total, got[1][i].own_total);
    EXPECT_NEAR(got[0][i].grad_norm, want[i].grad_norm, 1e-3 * want[i].grad_norm);
    EXPECT_EQ(want[i].own_total, want[i].total);
    EXPECT_EQ(got[0][i].class_gradients, got[1][i].class_gradients);
    testing::expect_near(got[0][i].class_gradients, want[i].class_gradients, 1e-9, 1e-4);
  }
}

// Each draws rows of its own, the update is one.
TEST(Ranks, GroupSoftmaxStaysTogether) {
  Floats weights[2];
  std::vector<double> states[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const auto r = static_cast<size_t>(ranks.rank());
    Rank rank(ranks, "bags");
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isfinite(rank.train(images(2 * i + ranks.rank(), 1)).total));
    weights[r] = rank.weights();
    states[r] = rank.state();
  });
  EXPECT_EQ(weights[0], weights[1]) << "ranks drift apart";
  ASSERT_EQ(states[0].size(), 5 + 6 * kClasses + 1);  // and the record of the classes' gradients
  EXPECT_EQ(std::vector<double>(states[0].begin(), states[0].begin() + 5), (std::vector<double>{0, 3, 3, 2, 1}))
      << "seed, steps, groups";
  EXPECT_EQ(states[1], states[0]);
}

// An infinite logit on the wrong side: the loss of that rank alone is infinite, all gradients are finite.
TEST(Ranks, OneRanksInfiniteLossStopsTheUpdateOfAll) {
  Floats before[2], after[2], later[2];
  std::vector<double> state_before[2], state_after[2], state_later[2];
  TrainStep::Result results[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const auto r = static_cast<size_t>(ranks.rank());
    Rank rank(ranks, "eqlv2");
    before[r] = rank.weights();
    state_before[r] = rank.state();
    Tensor& bias = rank.detector.parameters().find("bbox_head.reppoints_cls_out.bias")->node.value;
    const Floats sound = rank.context.download<float>(bias);
    if (r == 1) rank.context.upload<float>(Floats(kClasses, std::numeric_limits<float>::infinity()), bias);
    results[r] = rank.train(images(ranks.rank(), 1));
    if (r == 1) rank.context.upload<float>(sound, bias);
    after[r] = rank.weights();
    state_after[r] = rank.state();
    (void)rank.train(images(ranks.rank(), 1));
    later[r] = rank.weights();
    EXPECT_EQ(results[r].class_gradients, std::vector<double>(6 * kClasses + 1, 0)) << "the step counted";
    state_later[r] = rank.state();
  });
  for (const size_t r : {0u, 1u}) {
    EXPECT_TRUE(std::isinf(results[r].total));
    EXPECT_TRUE(std::isfinite(results[r].grad_norm)) << "the gradients should not give it away";
    EXPECT_EQ(after[r], before[r]) << "rank " << r;
    EXPECT_EQ(state_after[r], state_before[r]) << "rank " << r;
    EXPECT_NE(state_later[r], state_before[r]) << "rank " << r;
  }
  EXPECT_TRUE(std::isfinite(results[0].own_total));
  EXPECT_TRUE(std::isinf(results[1].own_total));
  EXPECT_NE(later[0], before[0]);
  EXPECT_EQ(later[0], later[1]);
}

TEST(Ranks, OnlyTheFirstWritesAndLogs) {
  TemporaryFolder folder;
  put_tiny_set(folder / "data", 8);
  ExperimentConfig config = tiny_config(folder / "data");
  config.loader.batch_size = 1;
  config.schedule.epochs = 1;
  config.schedule.steps = {};
  int64_t steps[2] = {0, 0};
  ThreadRanks(2).run([&](Communicator& ranks) {
    Context context(1);
    Trainer::Options options;
    options.work_dir = folder / ("work" + std::to_string(ranks.rank()));
    options.quiet = true;
    Trainer trainer(context, ranks, config, options);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
    steps[ranks.rank()] = trainer.step();
  });
  EXPECT_EQ(steps[0], 4);  // eight images, two at a time
  EXPECT_EQ(steps[1], 4);
  for (const char* written : {"log.jsonl", "config.yaml", "checkpoints/checkpoint_4.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "work0" / written)) << written;
    EXPECT_FALSE(std::filesystem::exists(folder / "work1" / written)) << written;
  }
}

}  // namespace
}  // namespace gradlibra
