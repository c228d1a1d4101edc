// SPDX-License-Identifier: MIT
// Two ranks with an emulated GPU each, over the stand-in for NCCL, train as one process with the whole batch; their
// step is recorded like any other, with the sums of buckets beside the backward pass and those of batch norms in it.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "engine/train_step.h"
#include "runtime/distributed/nccl_communicator.h"
#include "tests/emulator/emulated_ranks.h"
#include "tests/engine/noise_batch.h"

namespace gradlibra::emulator_test {
namespace {

constexpr int kBatch = 2, kSteps = 5;  // three run kernel by kernel before the graph is recorded
constexpr int64_t kSide = 32, kMaxBoxes = 3;

// RepPoints with a loss that keeps a state, which all ranks add to.
ModelConfig tiny_model() {
  ModelConfig model;
  model.backbone = {
      .depth = 18, .base_channels = 2, .frozen_stages = 3, .norm_eval = false, .zero_init_residual = false};
  model.neck = {.out_channels = 8, .num_outs = 3, .norm = "group", .norm_groups = 4};
  model.head = {.feat_channels = 8, .point_channels = 8, .stacked_convs = 1, .norm = "group", .norm_groups = 2};
  model.head.refine_min_pos_iou = 1e-12;  // with no more than a point each, boxes have hardly begun to overlap
  model.loss.type = "eqlv2";
  return model;
}

// Image i is the same whatever batch it stands in; now and then one has no boxes. A batch always has two positives, far
// apart: a normaliser is at least one for each rank.
Batch images(int first, int count) {
  Batch batch = testing::empty_batch(kSide, kMaxBoxes);
  for (int i = first; i < first + count; ++i)
    testing::add_noise_image(batch, static_cast<uint32_t>(i), i % 8, [i](std::mt19937& random) {
      std::vector<testing::TargetBox> boxes;
      const int wanted = i % 4 == 1 ? 0 : 2 + i % 2;
      for (int b = 0; b < wanted; ++b) {
        const auto x = static_cast<float>(b % 2 * 16 + random() % 3), y = static_cast<float>(b / 2 * 16 + random() % 3);
        const float right = x + 9 + static_cast<float>(random() % 4);
        boxes.push_back({{x, y, right, y + 10}, static_cast<int32_t>(random() % 3)});
      }
      return boxes;
    });
  return batch;
}

// Losses and norms of all steps, the loss's state, and all weights, as doubles one behind the other.
std::vector<double> train(Context& context, Communicator& ranks) {
  Detector detector(context, tiny_model(), ClassInfo{{"a", "b", "c"}, {20000, 7000, 30}});
  detector.parameters().initialize(7);
  Optimizer optimizer(detector.parameters(), {.clip_norm = 10});
  TrainStep step(detector, optimizer, ranks, {.buckets = {.first_mb = 0.002, .mb = 0.01}});
  std::vector<double> numbers;
  const int own = kBatch / ranks.world_size();
  for (int i = 0; i < kSteps; ++i) {
    step.stage(images(kBatch * i + own * ranks.rank(), own));
    step.enqueue(0.02);
    const TrainStep::Result result = step.wait();
    for (const auto& [name, value] : result.losses) numbers.push_back(value);
    numbers.push_back(result.grad_norm);
  }
  EXPECT_EQ(step.uses_graph(), !context.on_host());
  for (const TrainingState& part : detector.state())
    for (const double value : context.download<double>(*part.values)) numbers.push_back(value);
  for (const Parameter& p : detector.parameters().all())
    for (const float value : context.download<float>(p.node.value)) numbers.push_back(value);
  return numbers;
}

TEST(NcclTraining, TwoRanksTrainAsOne) {
  const std::vector<std::string> results = run_gpu_ranks(2, [](HostGroup& hosts) {
    const auto context = Context::for_device("cuda");
    const auto ranks = make_nccl_communicator(*context, hosts, 20);
    const std::vector<double> numbers = train(*context, *ranks);
    ranks->finish();
    return std::string(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double));
  });
  EXPECT_TRUE(results[0] == results[1]) << "not a bit may differ between ranks";
  Context host(1, ConvolutionLibrary::plain);
  SingleProcess alone;
  const std::vector<double> want = train(host, alone);
  std::vector<double> got(want.size());
  ASSERT_EQ(results[0].size(), want.size() * sizeof(double)) << results[0].substr(0, 500);
  std::memcpy(got.data(), results[0].data(), results[0].size());
  // Sums of float32 in another order, on another device: the tolerance of the emulated step against the host's.
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4 * (1 + std::abs(want[i]))) << i;
}

}  // namespace
}  // namespace gradlibra::emulator_test
