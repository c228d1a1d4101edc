// SPDX-License-Identifier: MIT
// What tests of heads share: small maps, ground truth, ranks, and a classification loss with everything that one may
// have.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/elementwise.h"
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

// Of two ranks the other one has so many more of everything.
class TwoRanks final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 2; }
  void sum(View<double> values) override {
    for (int64_t i = 0; i < values.size(); ++i) values[i] += 7;
  }
  void sum(View<float>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
  std::vector<std::string> gather(const std::string& own) override { return {own, own}; }
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

}  // namespace gradlibra::testing
