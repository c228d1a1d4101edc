// SPDX-License-Identifier: MIT
// What tests of heads share: small maps, ground truth, ranks, and a classification loss with everything that one may
// have.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "models/config.h"
#include "models/heads/head.h"
#include "models/losses/classification_loss.h"
#include "models/targets.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/distributed/communicator.h"
#include "tests/models/filler.h"

namespace gradlibra::testing {

using Floats = std::vector<float>;
using Losses = std::map<std::string, double>;

struct Box {
  float x1, y1, x2, y2;
  int label;
};

class HeadTest : public ::testing::Test {
 protected:
  GroundTruth truth(const std::vector<std::vector<Box>>& images, int64_t max_boxes) {
    const auto N = static_cast<int64_t>(images.size());
    Floats boxes(static_cast<size_t>(N * max_boxes * 4), 0.0f);
    std::vector<int32_t> labels(static_cast<size_t>(N * max_boxes), -1), counts;
    for (size_t n = 0; n < images.size(); ++n) {
      counts.push_back(static_cast<int32_t>(images[n].size()));
      for (size_t m = 0; m < images[n].size(); ++m) {
        const Box& b = images[n][m];
        const size_t row = n * static_cast<size_t>(max_boxes) + m;
        const float corners[4] = {b.x1, b.y1, b.x2, b.y2};
        std::copy(corners, corners + 4, boxes.begin() + static_cast<int64_t>(row) * 4);
        labels[row] = b.label;
      }
    }
    return {context.upload<float>(boxes, {N, max_boxes, 4}), context.upload<int32_t>(labels, {N, max_boxes}),
            context.upload<int32_t>(counts, {N})};
  }
  static void expect_finite(const Floats& values) {
    EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }));
  }
  static bool all_zero(const Floats& values) {
    return std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
  }
  // Points, lines, far outside, a million pixels wide.
  const std::vector<Box> hardly_boxes{
      {5, 5, 5, 5, 0}, {5, 5, 30, 5, 1}, {-500, -500, -400, -400, 2}, {-5e5f, -5e5f, 5e5f, 5e5f, 0}};
  const std::vector<Box> some{{4, 4, 40, 36, 0}, {30, 20, 60, 62, 2}, {10, 40, 22, 50, 1}};
  Context context{1, ConvolutionLibrary::plain};
};

// Two levels of 8 channels of 64 x 64 images: 64 cells of stride 8, 16 of stride 16. Image n is the same everywhere.
inline std::vector<Var> small_features(Context& context, Tape& tape, const std::vector<int>& images) {
  std::vector<Var> levels;
  for (const int64_t side : {8, 4}) {
    Floats features;
    for (const int n : images) {
      const Floats one =
          filled_nhwc("features" + std::to_string(n) + "." + std::to_string(side), 1, 8, side, side, -1, 1);
      features.insert(features.end(), one.begin(), one.end());
    }
    levels.push_back(
        tape.constant(context.upload<float>(features, {static_cast<int64_t>(images.size()), side, side, 8})));
  }
  return levels;
}

// A head of little and known values, with what a step needs around it. Of the maps above it takes the last, as many as
// its pyramid has levels.
template <class OneHead>
struct SmallHead {
  template <class Config>
  SmallHead(Context& c, const Config& config, const Pyramid& pyramid, std::unique_ptr<ClassificationLoss> loss,
            Normalizer normalizer = Normalizer::num_pos)
      : context(c),
        store(c),
        head(store, config, pyramid, std::move(loss), 3, normalizer),
        level_count(pyramid.strides.size()) {
    store.allocate();
    fill_parameters(store);
  }
  template <class Config>
  SmallHead(Context& c, const Config& config, const Pyramid& pyramid, const LossConfig& loss)
      : SmallHead(c, config, pyramid, make_classification_loss(c, loss, unknown_classes(3)),
                  parse_normalizer(loss.normalizer)) {}

  std::vector<Var> levels(Tape& tape, const std::vector<int>& images) {
    std::vector<Var> all = small_features(context, tape, images);
    return {all.end() - static_cast<std::ptrdiff_t>(level_count), all.end()};
  }
  // Losses, with the gradients of all parameters behind them; the tape keeps what was noted.
  Losses train(Tape& tape, const std::vector<int>& images, const GroundTruth& truth, Communicator& ranks) {
    Losses losses;
    for (const LossTerm& term : head.loss(tape, levels(tape, images), truth, ranks))
      losses[term.name] = context.download<double>(term.value)[0];
    tape.backward();
    store.finish_backward();
    return losses;
  }
  Losses train(const std::vector<int>& images, const GroundTruth& truth) {
    Tape tape(context, Tape::Mode::inspection);
    SingleProcess alone;
    return train(tape, images, truth, alone);
  }
  Floats value(const std::string& name) { return context.download<float>(store.find(name)->node.value); }
  Floats gradient(const std::string& name) { return context.download<float>(store.find(name)->node.grad); }
  Floats gradients() { return context.download<float>(store.flat_grads()); }

  Context& context;
  ParameterStore store;
  OneHead head;
  size_t level_count;
};

// Of two ranks the other one has so many more of everything.
class TwoRanks final : public Communicator {
 public:
  explicit TwoRanks(double others = 7) : others_(others) {}
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 2; }
  void sum(View<double> values) override {
    for (int64_t i = 0; i < values.size(); ++i) values[i] += others_;
  }
  void sum(View<float>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
  std::vector<std::string> gather(const std::string& own) override { return {own, own}; }

 private:
  double others_;
};

// A loss with a channel beyond the classes, sums over ranks and a state.
class CountingLoss final : public ClassificationLoss {
 public:
  explicit CountingLoss(Context& context) : counts_(context.zeros({2}, DType::f64)) {}
  [[nodiscard]] int channels() const override { return 4; }
  [[nodiscard]] std::vector<float> bias_init() const override { return {1, 2, 3, -4}; }
  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    EXPECT_EQ(logits.dim(-1), 4);
    return tape.buffer({logits.dim(0), logits.dim(1), 3});
  }
  [[nodiscard]] Tensor before(Tape& tape, const Rows& rows) override {
    EXPECT_EQ(rows.labels.shape(), rows.weights.shape());
    return doubles(tape.context(), {1, 2, 3});
  }
  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor&, const Summed& summed) override {
    seen = tape.context().download<double>(summed.values);
    ranks = summed.ranks;
    ops::with_loss_gradient(tape, rows.logits, [&](View<float> grad) {
      tape.run([&](auto& device) { kernels::fill(device, grad, 1.0f); });
    });
    staged_ = doubles(tape.context(), {5, 7});
    return doubles(tape.context(), {0.5});
  }
  [[nodiscard]] Tensor increments() override { return std::move(staged_); }
  void commit(Context&, View<const double> summed, View<const float> ok) override {
    if (!std::isfinite(ok[0])) return;
    for (int64_t i = 0; i < 2; ++i) counts_.view<double>()[i] += summed[i];
  }
  [[nodiscard]] std::vector<TrainingState> state() override { return {{"counting.counts", &counts_}}; }

  std::vector<double> seen;
  int ranks = 0;

 private:
  static Tensor doubles(Context& context, const std::vector<double>& values) {
    return context.upload<double>(values, {static_cast<int64_t>(values.size())});
  }
  Tensor counts_, staged_;
};

// `small` was made with `loss`: the head gives it what it wants, a step's sums over ranks among it, and hands on what
// it accumulates. `bias` is the classifier's, of so many anchors; boxes are predicted for P cells in all.
template <class Small>
void expect_serves(Small& small, CountingLoss& loss, const GroundTruth& truth, const std::string& bias, int anchors,
                   int64_t P) {
  small.store.initialize(0);
  Floats start;
  for (int a = 0; a < anchors; ++a) start.insert(start.end(), {1, 2, 3, -4});
  EXPECT_EQ(small.value(bias), start);

  TwoRanks ranks;
  Tape tape(small.context, Tape::Mode::inspection);
  EXPECT_EQ(small.train(tape, {0}, truth, ranks).at("loss_cls"), 0.5);
  EXPECT_EQ(loss.seen, (std::vector<double>{8, 9, 10}));
  EXPECT_EQ(loss.ranks, 2);

  const Tensor increments = small.head.increments();
  EXPECT_EQ(small.context.template download<double>(increments), (std::vector<double>{5, 7}));
  const std::vector<TrainingState> state = small.head.state();
  ASSERT_EQ(state.size(), 1u);
  for (const auto& [ok, want] : {std::pair<float, double>{std::nanf(""), 0}, {0.5f, 7}}) {
    small.head.commit(small.context, increments.view<double>(), View<const float>(&ok, {1}));
    EXPECT_EQ(small.context.template download<double>(*state[0].values)[1], want);
  }

  Tape shapes(small.context, Tape::Mode::shapes);
  std::vector<Var> maps{shapes.make({1, 8, 8, 8}, false), shapes.make({1, 4, 4, 8}, false)};
  maps.erase(maps.begin(), maps.end() - static_cast<std::ptrdiff_t>(small.level_count));
  EXPECT_EQ(small.head.predict(shapes, maps).boxes.shape(), (Shape{1, P, 4}));
}

// One level where there are two.
template <class Small>
void expect_one_level_per_stride(Small& small, const GroundTruth& truth) {
  Tape tape(small.context);
  const std::vector<Var> levels{tape.constant(small.context.zeros({1, 8, 8, 8}))};
  SingleProcess alone;
  EXPECT_THROW((void)small.head.predict(tape, levels), std::invalid_argument);
  EXPECT_THROW((void)small.head.loss(tape, levels, truth, alone), std::invalid_argument);
}

}  // namespace gradlibra::testing
