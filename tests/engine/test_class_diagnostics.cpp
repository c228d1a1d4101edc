// SPDX-License-Identifier: MIT
// What a training tells of each class, by hand.
#include "engine/class_diagnostics.h"

#include <gtest/gtest.h>

#include "models/losses/classification_loss.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using Doubles = std::vector<double>;

// A loss with so many channels, of which those named are the classes'.
class Channels final : public ClassificationLoss {
 public:
  Channels(int channels, std::vector<int32_t> of_classes) : channels_(channels), of_classes_(std::move(of_classes)) {}
  [[nodiscard]] int channels() const override { return channels_; }
  [[nodiscard]] std::vector<float> bias_init() const override { return {}; }
  [[nodiscard]] Tensor scores(Tape&, Var) const override { return {}; }
  [[nodiscard]] Tensor loss(Tape&, const Rows&, const Tensor&, const Summed&) override { return {}; }
  [[nodiscard]] ClassLogits class_logits() const override { return {.channels = of_classes_}; }

 private:
  int channels_;
  std::vector<int32_t> of_classes_;
};

// Sums in the order of kernels/losses/class_gradients.h. The second class was never pulled at by the loss, and
// cross-entropy never pushed at it.
TrainStep::Result two_classes() {
  TrainStep::Result result;
  result.class_gradients = {1,   2,   // cross-entropy: pull
                            4,   0,   // push
                            6,   0,   // the loss: pull
                            12,  8,   // push
                            100,      // steps
                            1.5, 0,   // of the pull, from hard rows
                            9,   1};  // of the push
  return result;
}

TEST(ClassDiagnostics, TwoClassesByHand) {
  TrainStep::Result result = two_classes();
  // Class 0 has channel 3 of 4, class 1 channel 1, at each of two anchors.
  result.classifier_squares = {1000, 9, 2000, 16, 3000, 16, 4000, 128};
  Channels loss(4, {3, 1});
  const auto told = class_diagnostics(result, {nullptr, &loss}, 2);
  ASSERT_TRUE(told.has_value());
  testing::expect_near("ratio of the loss", told->loss_ratio, Doubles{0.5, 0}, 1e-9);
  testing::expect_near("ratio of cross-entropy", told->ce_ratio, Doubles{0.25, 2e10}, 1e-9, 1e-12);
  EXPECT_EQ(told->hard_positive, (Doubles{0.25, 0}));
  EXPECT_EQ(told->hard_negative, (Doubles{0.75, 0.125}));
  EXPECT_EQ(told->weight_norm, (Doubles{12, 5}));

  nlohmann::ordered_json line;
  add_to_log(*told, {"a", "b"}, line);
  EXPECT_EQ(line["gradient_ratio"]["a"], told->loss_ratio[0]);
  EXPECT_EQ(line["gradient_ratio_ce"]["b"], told->ce_ratio[1]);
  EXPECT_EQ(line["gradient_hard_positive"], (nlohmann::ordered_json{{"a", 0.25}, {"b", 0.0}}));
  EXPECT_EQ(line["gradient_hard_negative"], (nlohmann::ordered_json{{"a", 0.75}, {"b", 0.125}}));
  EXPECT_EQ(line["weight_norm"], (nlohmann::ordered_json{{"a", 1.0}, {"b", 5.0 / 12}}));
  EXPECT_EQ(line["weight_norm_raw"], (nlohmann::ordered_json{{"a", 12.0}, {"b", 5.0}}));
}

TEST(ClassDiagnostics, WithoutChannelsOfTheirOwnClassesHaveThemInOrder) {
  TrainStep::Result result = two_classes();
  result.classifier_squares = {4, 0, 1000, 0, 0, 2000};  // the third channel is none of a class
  Channels loss(3, {});
  const auto told = class_diagnostics(result, {nullptr, &loss}, 2);
  EXPECT_EQ(told->weight_norm, (Doubles{2, 0}));
  nlohmann::ordered_json line;
  add_to_log({.loss_ratio = {0, 0},
              .ce_ratio = {0, 0},
              .hard_positive = {0, 0},
              .hard_negative = {0, 0},
              .weight_norm = {0, 0}},
             {"a", "b"}, line);
  EXPECT_EQ(line["weight_norm"]["a"], 0.0) << "not 0 / 0";
}

TEST(ClassDiagnostics, AreNoneWhereNothingWasRecorded) {
  Channels loss(2, {});
  EXPECT_FALSE(class_diagnostics({}, {nullptr, &loss}, 2).has_value());
}

}  // namespace
}  // namespace gradlibra
