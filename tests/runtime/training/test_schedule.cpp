// SPDX-License-Identifier: MIT
// Learning rates against tables.
#include "runtime/training/schedule.h"

#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using testing::near;
using testing::read_vectors;

TEST(Schedule, WarmUpAndSteps) {
  const auto example = read_vectors("optimizer")["iteration_epoch"];
  const auto& inputs = example["inputs"];
  const ScheduleConfig config{
      .steps = inputs["steps"], .gamma = 0.1, .warmup_iterations = inputs["warmup"], .warmup_ratio = inputs["ratio"]};
  ASSERT_EQ(inputs["iteration_epoch"].size(), 10u);
  for (size_t i = 0; i < inputs["iteration_epoch"].size(); ++i) {
    const auto at = inputs["iteration_epoch"][i].get<std::vector<int64_t>>();
    EXPECT_TRUE(near(learning_rate(config, inputs["base"], at[1], at[0]), example["expected"][i], 0, 1e-9))
        << "iteration " << at[0];
  }
}

TEST(Schedule, Tables) {
  const auto vectors = read_vectors("optimizer");
  for (const char* name : {"lr_table", "lr_table_warmup_across_a_step"}) {
    SCOPED_TRACE(name);
    const auto& table = vectors[name];
    const ScheduleConfig config{.steps = table["milestones_epochs"],
                                .gamma = table["gamma"],
                                .warmup_iterations = table["warmup_iters"],
                                .warmup_ratio = table["warmup_ratio"]};
    ASSERT_GE(table["values"].size(), 8u);
    for (const auto& row : table["values"]) {
      const int64_t iteration = row["it"], epoch = row["epoch"];
      ASSERT_EQ(iteration / table["iters_per_epoch"].get<int64_t>(), epoch);
      EXPECT_TRUE(near(learning_rate(config, table["base_lr"], epoch, iteration), row["lr"], 0, 1e-12))
          << "iteration " << iteration;
    }
  }
}

TEST(Schedule, RateFollowsTheTotalBatch) {
  const ScheduleConfig config;
  const auto rows = read_vectors("optimizer")["linear_scaling"];  // a loop over a part of a temporary would outlive it
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) EXPECT_TRUE(near(scaled_lr(config, row["batch"]), row["lr"], 0, 1e-12)) << row;
  EXPECT_EQ(scaled_lr({.lr = 0.01, .base_batch = 0}, 3), 0.01);
}

TEST(Schedule, NoWarmUpAndNoSteps) {
  const ScheduleConfig config{.steps = {}, .warmup_iterations = 0};
  EXPECT_EQ(learning_rate(config, 0.5, 0, 0), 0.5);
  EXPECT_EQ(learning_rate(config, 0.5, 100, 100000), 0.5);
}

TEST(Schedule, ConstantWarmUp) {
  const ScheduleConfig config{.steps = {}, .warmup = "constant", .warmup_iterations = 10, .warmup_ratio = 0.25};
  for (const int64_t iteration : {0, 5, 9}) EXPECT_EQ(learning_rate(config, 0.5, 0, iteration), 0.125);
  EXPECT_EQ(learning_rate(config, 0.5, 0, 10), 0.5);
}

TEST(Schedule, StepsCountInAnyOrder) {
  const ScheduleConfig config{.steps = {4, 2}, .gamma = 0.5, .warmup_iterations = 0};
  EXPECT_EQ(learning_rate(config, 1, 1, 0), 1);
  EXPECT_EQ(learning_rate(config, 1, 2, 0), 0.5);
  EXPECT_EQ(learning_rate(config, 1, 4, 0), 0.25);
}

}  // namespace
}  // namespace gradlibra
