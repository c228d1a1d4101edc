// SPDX-License-Identifier: MIT
// Ranks that share a batch train as one process with the whole of it: every detector, every loss, two and four ranks,
// also where a rank has no box; and all make the same calls in the same order.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/train_step.h"
#include "models/losses/classification_loss.h"
#include "tests/engine/noise_batch.h"
#include "tests/engine/thread_ranks.h"
#include "tests/engine/tiny_experiment.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using testing::ThreadRanks;
using Floats = std::vector<float>;

constexpr int64_t kSide = 64, kMaxBoxes = 4;
constexpr int kBatch = 4, kSteps = 2;  // the batch of all ranks together

// Writes down what it is asked for, and passes it on.
class Listening final : public Communicator {
 public:
  Listening(Communicator& inner, std::vector<std::string>& calls) : inner_(inner), calls_(calls) {}
  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int world_size() const override { return inner_.world_size(); }
  void sum(View<float> values) override {
    calls_.push_back(fmt::format("{} floats", values.size()));
    inner_.sum(values);
  }
  void sum(View<double> values) override {
    calls_.push_back(fmt::format("{} doubles", values.size()));
    inner_.sum(values);
  }
  void broadcast(View<float> values, int root) override {
    calls_.push_back(fmt::format("{} floats from {}", values.size(), root));
    inner_.broadcast(values, root);
  }
  void barrier() override {
    calls_.emplace_back("barrier");
    inner_.barrier();
  }
  std::vector<std::string> gather(const std::string& own) override {
    calls_.emplace_back("gather");
    return inner_.gather(own);
  }

 private:
  Communicator& inner_;
  std::vector<std::string>& calls_;
};

ModelConfig model_of(const std::string& detector, const std::string& loss) {
  ModelConfig model = tiny_config("").model;
  model.detector = detector;
  model.backbone.base_channels = 4;
  model.backbone.norm_eval = false;  // the statistics of a batch are those of all ranks' images
  model.backbone.frozen_stages = -1;
  model.yolof.pos_ignore_iou = 0.01;  // with fewer positives than ranks the ranks divide by more than one process
  model.loss.type = loss;
  model.loss.bags.beta = 1e9;  // every row of such a group: which are drawn depends on the rank
  return model;
}

// Image i is the same whatever batch it stands in.
//   different  no two are alike
//   some_empty one in four has no boxes: with four ranks, all that a rank has
//   alike      those of a step are all the same, so that each part of a batch draws the same rows
enum class Images { different, some_empty, alike };
Batch images(int first, int count, Images kind, int batch_size) {
  Batch batch = testing::empty_batch(kSide, kMaxBoxes);
  for (int n = first; n < first + count; ++n) {
    const int i = kind == Images::alike ? n / batch_size : n;
    testing::add_noise_image(batch, static_cast<uint32_t>(i) + 50, i % 8, [&](std::mt19937& random) {
      std::vector<testing::TargetBox> boxes;
      const int wanted = kind == Images::some_empty && i % 4 == 1 ? 0 : 2 + i % 3;
      for (int b = 0; b < wanted; ++b) {
        const auto x = static_cast<float>(random() % 30), y = static_cast<float>(random() % 30);
        const float right = x + 20 + static_cast<float>(random() % 14);
        boxes.push_back({{x, y, right, y + 24 + static_cast<float>(b)}, static_cast<int32_t>(random() % 3)});
      }
      return boxes;
    });
  }
  return batch;
}

struct Trained {
  Floats weights;
  std::vector<double> losses, state;
  std::vector<std::string> calls;
};

Trained train(Communicator& communicator, const ModelConfig& model, Images kind, int batch_size = kBatch,
              int steps = kSteps) {
  Trained trained;
  Listening ranks(communicator, trained.calls);
  Context context(1, ConvolutionLibrary::plain);
  Detector detector(context, model, ClassInfo{kTinyClasses, {20000, 7000, 30}});
  detector.parameters().initialize(7);
  Optimizer optimizer(detector.parameters(), {.clip_norm = 10});
  TrainStep step(detector, optimizer, ranks, {.buckets = {.first_mb = 0.01, .mb = 0.05}});
  const int own = batch_size / ranks.world_size();
  for (int i = 0; i < steps; ++i) {
    step.stage(images(batch_size * i + own * ranks.rank(), own, kind, batch_size));
    step.enqueue(0.02);
    const TrainStep::Result result = step.wait();
    for (const auto& [name, value] : result.losses) trained.losses.push_back(value);
    trained.losses.push_back(result.grad_norm);
  }
  for (const Parameter& p : detector.parameters().all()) {
    const Floats values = context.download<float>(p.node.value);
    trained.weights.insert(trained.weights.end(), values.begin(), values.end());
  }
  for (const TrainingState& part : detector.state()) {
    const std::vector<double> values = context.download<double>(*part.values);
    trained.state.insert(trained.state.end(), values.begin(), values.end());
  }
  return trained;
}

std::vector<Trained> train_on(int count, const ModelConfig& model, Images kind, int batch_size = kBatch,
                              int steps = kSteps) {
  std::vector<Trained> all(static_cast<size_t>(count));
  ThreadRanks(count).run([&](Communicator& ranks) {
    all[static_cast<size_t>(ranks.rank())] = train(ranks, model, kind, batch_size, steps);
  });
  return all;
}

// Sums of float32 in another order: within 1e-5 of a weight and 1e-4 of a loss after two steps.
void expect_equal(const Trained& ranks, const Trained& whole, const std::string& what, double of_losses = 1e-4,
                  double of_weights = 1e-5) {
  SCOPED_TRACE(what);
  testing::expect_near(ranks.losses, whole.losses, 1e-6, of_losses);
  testing::expect_near(ranks.state, whole.state, 1e-6, 1e-3);
  ASSERT_EQ(ranks.weights.size(), whole.weights.size());
  for (size_t i = 0; i < whole.weights.size(); ++i) ASSERT_NEAR(ranks.weights[i], whole.weights[i], of_weights) << i;
}

class RankEquality : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  [[nodiscard]] static ModelConfig model() { return model_of(std::get<0>(GetParam()), std::get<1>(GetParam())); }
  // One method depends on what stands in a part of the batch: BAGS counts rows for the groups that a rank's images
  // have.
  [[nodiscard]] static Images kind() { return model().loss.type == "bags" ? Images::alike : Images::some_empty; }
};
INSTANTIATE_TEST_SUITE_P(DetectorsAndLosses, RankEquality,
                         ::testing::Combine(::testing::Values("reppoints", "fcos", "atss", "yolof"),
                                            ::testing::ValuesIn(loss_kinds())),
                         [](const auto& test) { return std::get<0>(test.param) + "_" + std::get<1>(test.param); });

// Between ranks not a bit differs.
TEST_P(RankEquality, RanksTrainAsOneProcess) {
  SingleProcess alone;
  const Trained whole = train(alone, model(), kind());
  for (const int count : {2, 4}) {
    const std::vector<Trained> ranks = train_on(count, model(), kind());
    for (const Trained& rank : ranks) {
      EXPECT_EQ(rank.weights, ranks[0].weights);
      EXPECT_EQ(rank.losses, ranks[0].losses);
      EXPECT_EQ(rank.state, ranks[0].state);
      EXPECT_EQ(rank.calls, ranks[0].calls);
    }
    expect_equal(ranks[0], whole, std::to_string(count) + " ranks");
  }
}

// The paper's division: four GPUs with eight images each. One step, and a wider bound: among so many cells some is near
// a kink, of ReLU or of an assignment, which rounding crosses (a gradient's norm then differs by up to 3e-4).
TEST_P(RankEquality, FourOfEightImagesTrainAsOneProcessWithThirtyTwo) {
  SingleProcess alone;
  expect_equal(train_on(4, model(), kind(), 32, 1)[0], train(alone, model(), kind(), 32, 1), "4 x 8", 2e-3, 5e-5);
}

TEST_P(RankEquality, EveryRunHasTheSameBits) {
  const std::vector<Trained> first = train_on(4, model(), kind()), second = train_on(4, model(), kind());
  EXPECT_EQ(first[0].weights, second[0].weights);
  EXPECT_EQ(first[0].losses, second[0].losses);
  EXPECT_EQ(first[0].state, second[0].state);
}

TEST(Ranks, WithoutBoxesMakeTheSameCalls) {
  for (const char* detector : {"reppoints", "fcos", "atss", "yolof"}) {
    const ModelConfig model = model_of(detector, "seesaw");
    const std::vector<Trained> full = train_on(4, model, Images::different),
                               some = train_on(4, model, Images::some_empty);
    for (size_t r = 0; r < 4; ++r) EXPECT_EQ(some[r].calls, full[0].calls) << detector << " rank " << r;
    EXPECT_NE(some[0].losses, full[0].losses) << detector;
  }
}

}  // namespace
}  // namespace gradlibra
