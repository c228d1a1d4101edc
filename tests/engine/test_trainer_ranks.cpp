// SPDX-License-Identifier: MIT
// A training on several ranks: its learning rate, going on with another number of them, a loss that is not a number.
#include "tests/engine/thread_ranks.h"
#include "tests/engine/trainer_test.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using testing::ThreadRanks;

class TrainerRanks : public TrainerTest {
 protected:
  TrainerRanks() { put_tiny_set(folder_ / "twelve", 12); }

  // A learning rate that has neither warm-up nor drops.
  [[nodiscard]] ExperimentConfig config() const {
    ExperimentConfig config = tiny_config(folder_ / "twelve");
    config.schedule.epochs = 2;
    config.schedule.steps = {};
    config.schedule.warmup_iterations = 0;
    return config;
  }
  // What each rank's training threw; empty: nothing.
  static std::vector<std::string> train(int count, const ExperimentConfig& config, const Trainer::Options& options) {
    std::vector<std::string> messages(static_cast<size_t>(count));
    ThreadRanks(count).run([&](Communicator& ranks) {
      Context context(1);
      messages[static_cast<size_t>(ranks.rank())] = message_of([&] {
        Trainer trainer(context, ranks, config, options);
        static_cast<void>(trainer.run());
      });
    });
    return messages;
  }
};

// schedule.lr belongs to a total batch of base_batch (tests/runtime/training/test_schedule.cpp has the formula); the
// total batch is that of all ranks.
TEST_F(TrainerRanks, TheLearningRateFollowsTheTotalBatch) {
  ExperimentConfig c = config();
  c.schedule.base_batch = 8;
  c.loader.batch_size = 2;
  for (const int count : {1, 2}) {
    const std::string name = fmt::format("ranks{}", count);
    EXPECT_EQ(train(count, c, options(name, false, 1)), std::vector<std::string>(static_cast<size_t>(count)));
    ASSERT_EQ(log(name).size(), 1u);
    EXPECT_DOUBLE_EQ(log(name)[0].at("lr").get<double>(), c.schedule.lr * count / 4) << count << " ranks";
  }
}

// The product of ranks and batch is what counts inside an epoch: two ranks with two images each go on as one with four,
// and not as one with two.
TEST_F(TrainerRanks, AnotherNumberOfThemGoesOnWithTheSameTotalBatch) {
  ExperimentConfig two = config(), one = config();
  two.loader.batch_size = 2;  // 3 steps per epoch
  one.loader.batch_size = 4;
  const std::vector<std::string> none(2), alone(1);
  ASSERT_EQ(train(2, two, options("whole")), none);
  ASSERT_EQ(train(2, two, options("parts", false, 4)), none);
  EXPECT_EQ(checkpoint("parts", 4).metadata.at("ranks"), "2");
  ExperimentConfig less = two;
  EXPECT_HAS(train(1, two, options("parts", true))[0],
             "stands behind batch 1 of epoch 2, of 4 images each (loader.batch_size 2, ranks 2); now a batch has 2 (2, "
             "ranks 1)");
  ASSERT_EQ(train(1, one, options("parts", true, 5)), alone);
  EXPECT_FALSE(checkpoint("parts", 5).metadata.contains("ranks"));
  EXPECT_HAS(train(2, one, options("parts", true))[0], "of 4 images each (loader.batch_size 4, ranks 1); now a batch");
  ASSERT_EQ(train(2, two, options("parts", true)), none);
  // The images of each step were the same, so that weights differ by the order of sums alone.
  const SafetensorsFile want = checkpoint("whole", 6), got = checkpoint("parts", 6);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (const auto& [name, tensor] : want.tensors)
    testing::expect_near(name, got.tensors.at(name).to_floats(), tensor.to_floats(), 1e-5, 1e-3);
  EXPECT_EQ(log("parts").size(), 6u);
}

// The one whose loss it is names term and images and writes the batch under its number; all end with the same kind of
// error, which is one exit code.
TEST_F(TrainerRanks, ALossOfOneThatIsNoNumberEndsAll) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 1000;
  std::string messages[2];
  ThreadRanks(2).run([&](Communicator& ranks) {
    const auto r = static_cast<size_t>(ranks.rank());
    Context context(1);
    Trainer trainer(context, ranks, c, options("run"));
    Tensor& bias = trainer.detector().parameters().find("bbox_head.reppoints_cls_out.bias")->node.value;
    // On the wrong side of every row: the loss is infinite, the gradients are not.
    if (r == 1) context.upload<float>(std::vector<float>(kTinyClasses.size(), testing::kInfinity), bias);
    messages[r] = message_of<NonFiniteError>([&] { static_cast<void>(trainer.run()); });
    EXPECT_EQ(trainer.step(), 0);
  });
  EXPECT_HAS(messages[0], "another rank's loss is not finite at step 0. Nothing was updated.");
  EXPECT_HAS(messages[1], "loss_cls is inf at step 0");
  EXPECT_HAS(messages[1], "images: tiny_0");
  const auto dump = work("run") / "nonfinite_step_0_rank_1.safetensors";
  EXPECT_HAS(messages[1], dump.string());
  EXPECT_EQ(read_batch(dump).ids.size(), 2u);
  EXPECT_FALSE(std::filesystem::exists(work("run") / "nonfinite_step_0.safetensors"));
}

}  // namespace
}  // namespace gradlibra
