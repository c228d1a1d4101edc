// SPDX-License-Identifier: MIT
#include "models/losses/seesaw.h"

#include <cmath>
#include <stdexcept>

#include "kernels/losses/count_labels.h"
#include "kernels/losses/seesaw.h"
#include "kernels/scalar.h"
#include "models/losses/sigmoid_family.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

void SeesawConfig::describe(ConfigVisitor& v) {
  v.field("p", p, "mitigation: how much less a frequent class's rows push down a rarer class; 0 for off", at_least(0));
  v.field("q", q, "compensation: how much more a class is pushed down that is taken for the right one; 0 for off",
          at_least(0));
  v.field("eps", eps, "compensation: smallest probability of the right class that is told apart", above(0));
}

namespace {

class SeesawLoss final : public ClassificationLoss {
 public:
  SeesawLoss(Context& context, const LossConfig& config, int classes)
      : classes_(classes),
        weight_(config.weight),
        bias_(prior_bias(config.prior_probability)),
        options_{.p = config.seesaw.p, .q = config.seesaw.q, .eps = config.seesaw.eps},
        counts_(context.zeros({classes + 1}, DType::f64)),
        gained_(context.zeros({classes + 1}, DType::f64)) {}

  [[nodiscard]] int channels() const override { return classes_ + 1; }
  [[nodiscard]] bool has_objectness() const override { return true; }
  // Background rows say nothing about a class.
  [[nodiscard]] ClassLogits class_logits() const override { return {.every_row = false}; }

  // The classes start alike; that there is an object at all starts at the prior probability.
  [[nodiscard]] std::vector<float> bias_init() const override {
    std::vector<float> bias(static_cast<size_t>(classes_), 0);
    bias.push_back(bias_);
    return bias;
  }

  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    const int64_t N = logits.dim(0), P = logits.dim(1);
    Tensor result = tape.buffer({N, P, classes_});
    tape.run([&](auto& device) {
      kernels::seesaw_scores(device, {logits.view().data(), {N * P, channels()}},
                             result.view<float>({N * P, classes_}));
    });
    return result;
  }

  // Rows of each class, the background last: those of the running batch take part in its loss already.
  [[nodiscard]] Tensor before(Tape& tape, const Rows& rows) override {
    const int64_t R = rows.labels.size();
    Tensor counts = tape.context().empty({classes_ + 1}, DType::f64);
    Tensor workspace = tape.context().empty({kernels::count_labels_workspace(classes_ + 1)}, DType::i32);
    profiled("count labels", [&] {
      tape.run([&](auto& device) {
        kernels::count_labels(device, rows.labels.view<int32_t>({R}), rows.weights.view<float>({R}),
                              counts.view<double>(), workspace.view<int32_t>());
      });
    });
    return counts;
  }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed& summed) override {
    const int64_t R = rows.labels.size(), K = channels();
    tape.context().copy(summed.values, gained_);  // commit() needs them when the head's are gone
    const auto of_classes = [&](const Tensor& t) { return View<const double>(t.view<double>().data(), {classes_}); };
    Tensor value = tape.context().empty({1}, DType::f64);
    Tensor workspace = tape.context().empty({kernels::seesaw_loss_workspace(R)}, DType::f64);
    ops::with_loss_gradient(tape, rows.logits, [&](View<float> grad) {
      tape.run([&](auto& device) {
        kernels::seesaw_loss(device, {rows.logits.view().data(), {R, K}}, rows.labels.view<int32_t>({R}),
                             rows.weights.view<float>({R}), of_classes(counts_), of_classes(gained_), options_,
                             {weight_,
                              normalizer.view<double>(),
                              value.view<double>(),
                              {grad.data(), {R, K}},
                              workspace.view<double>()});
      });
    });
    return value;
  }

  // They have been summed before the loss.
  void commit(Context& context, View<const double>, View<const float> ok) override {
    context.run([&](auto& device) {
      kernels::add_if_finite(device, std::as_const(gained_).view<double>(), ok, counts_.view<double>());
    });
  }

  [[nodiscard]] std::vector<TrainingState> state() override { return {{"seesaw.counts", &counts_}}; }

 private:
  int classes_;
  double weight_;
  float bias_;
  kernels::SeesawOptions options_;
  Tensor counts_, gained_;  // (C + 1): rows of each class before this step, and in it on all ranks
};

}  // namespace

std::unique_ptr<ClassificationLoss> make_seesaw(Context& context, const LossConfig& config, const ClassInfo& classes) {
  const auto require_key = [](double value, const char* key) {
    if (!(value >= 0 && std::isfinite(value)))
      throw std::invalid_argument(std::string("model.loss.seesaw.") + key + " must not be negative");
  };
  require_key(config.seesaw.p, "p");
  require_key(config.seesaw.q, "q");
  require_key(config.seesaw.eps, "eps");
  return std::make_unique<SeesawLoss>(context, config, classes.count());
}

}  // namespace gradlibra
