// SPDX-License-Identifier: MIT
// Recording the gradients of any loss: what goes to the loss and what to the record, and that every detector has one.
#include "models/losses/recorded_loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/elementwise.h"
#include "models/config.h"
#include "models/detector.h"
#include "models/heads/make_head.h"
#include "models/losses/seesaw.h"
#include "runtime/autograd/ops/loss.h"

namespace gradlibra {
namespace {

using Doubles = std::vector<double>;

// Four channels, of which 3 and 1 are the classes'; a state of two doubles; gradient 2 everywhere, divided by a
// normaliser of its own.
class OddLoss final : public ClassificationLoss {
 public:
  explicit OddLoss(Context& context)
      : counts_(context.zeros({2}, DType::f64)), normalizers_(context.upload<double>(Doubles{10, 100}, {2})) {}
  [[nodiscard]] int channels() const override { return 4; }
  [[nodiscard]] std::vector<float> bias_init() const override { return {1, 2, 3, 4}; }
  [[nodiscard]] Tensor scores(Tape& tape, Var) const override { return tape.buffer({1}); }
  [[nodiscard]] Tensor before(Tape& tape, const Rows&) override {
    return tape.context().upload<double>(Doubles{9}, {1});
  }
  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor&, const Summed&) override {
    ops::with_loss_gradient(tape, rows.logits, [&](View<float> grad) {
      tape.run([&](auto& device) { kernels::fill(device, grad, 2.0f); });
    });
    staged_ = tape.context().upload<double>(Doubles{5, 7}, {2});
    return tape.context().upload<double>(Doubles{0.5}, {1});
  }
  [[nodiscard]] Tensor increments() override { return std::move(staged_); }
  void commit(Context&, View<const double> summed, View<const float> ok) override {
    ASSERT_EQ(summed.size(), 2);
    for (int64_t i = 0; i < 2 && std::isfinite(ok[0]); ++i) counts_.view<double>()[i] += summed[i];
  }
  [[nodiscard]] std::vector<TrainingState> state() override { return {{"odd.counts", &counts_}}; }
  [[nodiscard]] ClassLogits class_logits() const override { return {.channels = {3, 1}}; }
  [[nodiscard]] const Tensor* class_normalizers() const override { return &normalizers_; }

 private:
  Tensor counts_, normalizers_, staged_;
};

TEST(RecordedLoss, SplitsWhatBelongsToTheLossFromTheRecord) {
  Context context(1);
  const auto loss = record_gradients(std::make_unique<OddLoss>(context), context, 2, 0.5);
  EXPECT_EQ(loss->channels(), 4);
  EXPECT_EQ(loss->bias_init(), (std::vector<float>{1, 2, 3, 4}));
  Node node;
  node.value = context.zeros({1, 3, 4});
  node.requires_grad = true;
  Tape tape(context);
  // Of class 0, of the background, and ignored.
  const Tensor labels = context.upload<int32_t>(std::vector<int32_t>{0, 2, 1}, {1, 3}),
               weights = context.upload<float>(std::vector<float>{1, 1, 0}, {1, 3}),
               normalizer = context.upload<double>(Doubles{77}, {1});
  const Rows rows{Var(&node), labels, weights};
  const Tensor before = loss->before(tape, rows);
  EXPECT_EQ(context.download<double>(before), Doubles{9});
  EXPECT_EQ(context.download<double>(loss->loss(tape, rows, normalizer, {before})), Doubles{0.5});

  const Tensor increments = loss->increments();
  // |p - y| is 1/2; the gradient 2 times the class's normaliser over the loss's weight.
  EXPECT_EQ(context.download<double>(increments), (Doubles{5, 7, 0.5, 0, 0.5, 1, 40, 0, 40, 800, 2, 0, 0, 0, 0}));
  const std::vector<TrainingState> state = loss->state();
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state[1].name, "diagnostics.class_gradients");
  EXPECT_EQ(loss->class_gradients(), state[1].values);
  for (const float ok : {std::nanf(""), 1.0f, 1.0f})
    loss->commit(context, increments.view<double>(), View<const float>(&ok, {1}));
  EXPECT_EQ(context.download<double>(*state[0].values), (Doubles{10, 14}));
  EXPECT_EQ(context.download<double>(*state[1].values), (Doubles{0.5, 0, 0.5, 1, 40, 0, 40, 800, 2, 0, 0, 0, 0}));
}

// Of a row of class 0 and a background row, all logits 0: the class's row alone pushes the other class down.
TEST(RecordedLoss, BackgroundRowsSayNothingOfSeesawsClasses) {
  Context context(1);
  const auto loss = record_gradients(make_seesaw(context, {}, ClassInfo{{"a", "b"}, {5, 5}}), context, 2, 1);
  Node node;
  node.value = context.zeros({1, 2, 3});
  node.requires_grad = true;
  Tape tape(context);
  const Tensor labels = context.upload<int32_t>(std::vector<int32_t>{0, 2}, {1, 2}),
               weights = context.upload<float>(std::vector<float>{1, 1}, {1, 2}),
               normalizer = context.upload<double>(Doubles{1}, {1});
  const Rows rows{Var(&node), labels, weights};
  const Tensor before = loss->before(tape, rows);
  (void)loss->loss(tape, rows, normalizer, {before});
  const Doubles increments = context.download<double>(loss->increments());
  ASSERT_EQ(increments.size(), 13u);
  EXPECT_EQ(Doubles(increments.begin(), increments.begin() + 4), (Doubles{0.5, 0, 0, 0.5}));
}

TEST(RecordedLoss, ALossMustGiveEachClassALogit) {
  Context context(1);
  EXPECT_THROW((void)record_gradients(std::make_unique<OddLoss>(context), context, 3, 1), std::invalid_argument);
}

// Any head with any loss: what training records is found.
TEST(RecordedLoss, EveryDetectorTellsItsClassifierAndItsLoss) {
  for (const std::string& kind : detector_kinds()) {
    SCOPED_TRACE(kind);
    Context context(1);
    ModelConfig model;
    model.detector = kind;
    model.backbone = {.depth = 18, .base_channels = 4};
    model.neck.out_channels = 16;
    model.head.feat_channels = model.head.point_channels = 16;
    model.loss.record_gradients = true;
    const Detector detector(context, model, 3);
    const Classifier classifier = detector.classifier();
    ASSERT_NE(classifier.weight, nullptr);
    ASSERT_NE(classifier.loss, nullptr);
    EXPECT_EQ(classifier.weight->node.value.dim(0) % classifier.loss->channels(), 0);
    ASSERT_NE(classifier.loss->class_gradients(), nullptr);
    EXPECT_EQ(classifier.loss->class_gradients()->size(), 19);
    model.loss.record_gradients = false;
    EXPECT_EQ(Detector(context, model, 3).classifier().loss->class_gradients(), nullptr);
  }
}

}  // namespace
}  // namespace gradlibra
