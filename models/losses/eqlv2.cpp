// SPDX-License-Identifier: MIT
#include "models/losses/eqlv2.h"

#include <cmath>
#include <stdexcept>

#include "kernels/losses/eqlv2.h"
#include "models/losses/sigmoid_family.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

void EqlV2Config::describe(ConfigVisitor& v) {
  v.field("gamma", gamma, "steepness of the map from a class's gradient ratio to its weights", at_least(0));
  v.field("mu", mu, "the gradient ratio at which both weights are half way", at_least(0));
  v.field("alpha", alpha, "a class without positive gradient has its positives raised by this, plus 1", at_least(0));
  v.field("objectness_channel", objectness_channel,
          "one more channel that tells background from objects, as published; its score lowers those of the classes");
}

namespace {

class EqlV2Loss final : public ClassificationLoss {
 public:
  EqlV2Loss(Context& context, const LossConfig& config, int classes)
      : classes_(classes),
        objectness_(config.eqlv2.objectness_channel),
        weight_(config.weight),
        bias_(prior_bias(config.prior_probability)),
        options_{.gamma = config.eqlv2.gamma, .mu = config.eqlv2.mu, .alpha = config.eqlv2.alpha},
        sums_(context.zeros({2, classes}, DType::f64)),
        ratios_(context.upload<double>(std::vector<double>(static_cast<size_t>(classes), kernels::kEqlV2FirstRatio),
                                       {classes})),
        weights_(context.empty({2, channels()})),
        gained_(context.empty({2, classes}, DType::f64)) {}

  [[nodiscard]] int channels() const override { return classes_ + (objectness_ ? 1 : 0); }
  [[nodiscard]] bool has_objectness() const override { return objectness_; }

  [[nodiscard]] std::vector<float> bias_init() const override {
    std::vector<float> bias(static_cast<size_t>(classes_), bias_);
    if (objectness_) bias.push_back(-bias_);  // nearly all is background
    return bias;
  }

  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    const int64_t N = logits.dim(0), P = logits.dim(1), K = channels();
    Tensor result = tape.buffer({N, P, classes_});
    tape.run([&](auto& device) {
      if (objectness_)
        kernels::eqlv2_scores(device, {logits.view().data(), {N * P, K}}, result.view<float>({N * P, classes_}));
      else
        kernels::sigmoid(device, logits.view(), result.view());
    });
    return result;
  }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed&) override {
    const int64_t R = rows.labels.size(), K = channels();
    tape.run([&](auto& device) {
      kernels::eqlv2_weights(device, std::as_const(ratios_).view<double>(), options_, weights_.view());
    });
    const kernels::EqlV2 member{std::as_const(weights_).view().data(), channels()};
    Tensor value = ops::sigmoid_loss(tape, rows.logits, rows.labels, rows.weights, member, weight_, normalizer);
    Tensor workspace = tape.context().empty({kernels::eqlv2_gradients_workspace(R, classes_)}, DType::f64);
    profiled("eqlv2 gradients", [&] {
      tape.run([&](auto& device) {
        kernels::eqlv2_gradients(device, {rows.logits.view().data(), {R, K}}, rows.labels.view<int32_t>({R}),
                                 rows.weights.view<float>({R}), std::as_const(weights_).view(), gained_.view<double>(),
                                 workspace.view<double>());
      });
    });
    return value;
  }

  [[nodiscard]] Tensor increments() override { return Tensor::borrow(gained_.view<double>().data(), {gained_.size()}); }

  void commit(Context& context, View<const double> summed, View<const float> ok) override {
    context.run([&](auto& device) {
      kernels::eqlv2_accumulate(device, {summed.data(), sums_.shape()}, ok, sums_.view<double>(),
                                ratios_.view<double>());
    });
  }

  [[nodiscard]] std::vector<TrainingState> state() override {
    return {{"eqlv2.gradients", &sums_}, {"eqlv2.ratios", &ratios_}};
  }

 private:
  int classes_;
  bool objectness_;
  double weight_;
  float bias_;
  kernels::EqlV2Options options_;
  Tensor sums_, ratios_;  // (2, C): positive and negative gradients of the whole training; (C): their ratio
  Tensor weights_;        // (2, channels), of the running step
  Tensor gained_;         // (2, C): this rank's gradients of the running step
};

}  // namespace

std::unique_ptr<ClassificationLoss> make_eqlv2(Context& context, const LossConfig& config, const ClassInfo& classes) {
  const auto require_key = [](bool good, const char* key, const char* what) {
    if (!good) throw std::invalid_argument(std::string("model.loss.eqlv2.") + key + " must be " + what);
  };
  require_key(std::isfinite(config.eqlv2.gamma), "gamma", "finite");
  require_key(std::isfinite(config.eqlv2.mu), "mu", "finite");
  require_key(config.eqlv2.alpha >= 0 && std::isfinite(config.eqlv2.alpha), "alpha", "at least 0");
  return std::make_unique<EqlV2Loss>(context, config, classes.count());
}

}  // namespace gradlibra
