// SPDX-License-Identifier: MIT
#include "models/losses/recorded_loss.h"

#include <numeric>
#include <stdexcept>

#include "kernels/losses/class_gradients.h"

namespace gradlibra {

namespace {

class RecordedLoss final : public ClassificationLoss {
 public:
  RecordedLoss(std::unique_ptr<ClassificationLoss> loss, Context& context, int classes, double loss_weight)
      : loss_(std::move(loss)),
        options_{.loss_weight = loss_weight, .every_row = loss_->class_logits().every_row},
        totals_(context.zeros({kernels::class_gradients_size(classes)}, DType::f64)) {
    std::vector<int32_t> channels = loss_->class_logits().channels;
    if (channels.empty()) {
      channels.resize(static_cast<size_t>(classes));
      std::iota(channels.begin(), channels.end(), 0);
    }
    for (const int32_t channel : channels)
      require(channel >= 0 && channel < loss_->channels(), "record_gradients", "a class has no logit");
    require(static_cast<int>(channels.size()) == classes, "record_gradients", "a logit for each class is needed");
    channels_ = context.upload<int32_t>(channels, {classes});
  }

  [[nodiscard]] int channels() const override { return loss_->channels(); }
  [[nodiscard]] std::vector<float> bias_init() const override { return loss_->bias_init(); }
  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override { return loss_->scores(tape, logits); }
  [[nodiscard]] bool has_objectness() const override { return loss_->has_objectness(); }
  [[nodiscard]] ClassLogits class_logits() const override { return loss_->class_logits(); }
  [[nodiscard]] const Tensor* class_normalizers() const override { return loss_->class_normalizers(); }
  [[nodiscard]] const Tensor* class_gradients() const override { return &totals_; }
  [[nodiscard]] Tensor before(Tape& tape, const Rows& rows) override { return loss_->before(tape, rows); }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed& summed) override {
    if (rows.logits.node().grad_written)
      throw std::logic_error("record_gradients: something else has added to the gradient of the logits");
    Tensor value = loss_->loss(tape, rows, normalizer, summed);
    record(tape, rows, loss_->class_normalizers() != nullptr ? *loss_->class_normalizers() : normalizer);
    return value;
  }

  [[nodiscard]] Tensor increments() override {
    const Tensor own = loss_->increments();
    if (own.empty()) {
      of_loss_ = 0;
      return std::move(sums_);
    }
    of_loss_ = own.size();
    Tensor both = context_->empty({of_loss_ + sums_.size()}, DType::f64);
    double* const to = both.view<double>().data();
    Tensor front = Tensor::borrow(to, own.shape()), back = Tensor::borrow(to + of_loss_, sums_.shape());
    context_->copy(own, front);
    context_->copy(sums_, back);
    sums_ = {};
    return both;
  }

  void commit(Context& context, View<const double> summed, View<const float> ok) override {
    loss_->commit(context, of_loss_ > 0 ? View<const double>(summed.data(), {of_loss_}) : View<const double>(), ok);
    const View<const double> sums(summed.data() + of_loss_, totals_.shape());
    context.run([&](auto& device) { kernels::add_class_gradients(device, sums, ok, totals_.view<double>()); });
  }

  [[nodiscard]] std::vector<TrainingState> state() override {
    std::vector<TrainingState> all = loss_->state();
    all.push_back({std::string(kDiagnosticState) + "class_gradients", &totals_});
    return all;
  }

 private:
  // The gradient has just been written, divided by `normalizers`.
  void record(Tape& tape, const Rows& rows, const Tensor& normalizers) {
    context_ = &tape.context();
    const Node& logits = rows.logits.node();
    if (!logits.requires_grad) {  // nothing learns from them
      sums_ = context_->zeros(totals_.shape(), DType::f64);
      return;
    }
    const int64_t K = rows.logits.dim(-1), R = rows.labels.size();
    sums_ = context_->empty(totals_.shape(), DType::f64);
    Tensor workspace = context_->empty({kernels::class_gradients_workspace(R, channels_.size())}, DType::f64);
    tape.run([&](auto& device) {
      kernels::class_gradients(device, {rows.logits.view().data(), {R, K}}, {logits.grad.view().data(), {R, K}},
                               rows.labels.view<int32_t>({R}), rows.weights.view<float>({R}),
                               std::as_const(channels_).view<int32_t>(), normalizers.view<double>(), options_,
                               sums_.view<double>(), workspace.view<double>());
    });
  }

  std::unique_ptr<ClassificationLoss> loss_;
  kernels::ClassGradients options_;
  Tensor channels_;  // (C) int32
  Tensor totals_;    // over the training, as of kernels::add_class_gradients
  Tensor sums_;      // of the step that is under way
  int64_t of_loss_ = 0;
  Context* context_ = nullptr;
};

}  // namespace

std::unique_ptr<ClassificationLoss> record_gradients(std::unique_ptr<ClassificationLoss> loss, Context& context,
                                                     int classes, double loss_weight) {
  return std::make_unique<RecordedLoss>(std::move(loss), context, classes, loss_weight);
}

}  // namespace gradlibra
