// SPDX-License-Identifier: MIT
#include "models/losses/class_balanced.h"

#include <cmath>
#include <stdexcept>

#include "kernels/losses/class_balanced.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/focal.h"
#include "models/losses/sigmoid_family.h"

namespace gradlibra {

void ClassBalancedConfig::describe(ConfigVisitor& v) {
  v.field("beta", beta, "how soon more samples of a class add nothing new: 0 (weights 1) to below 1",
          between(0, 0.9999999999));
  v.choice("base", base, {"cross_entropy", "focal"}, "the loss that is weighed");
  v.field("gamma", gamma, "base focal: exponent", at_least(0));
  v.choice("apply", apply, {"row", "element"},
           "the weight of a row's class on all its entries, or of each channel's class on that entry");
  v.field("background_weight", background_weight, "apply row: weight of background rows", at_least(0));
}

std::vector<double> effective_numbers(std::span<const int64_t> instances, double beta) {
  std::vector<double> numbers;
  // 1 - beta^n without the cancellation of a small difference; beta = 0 gives 1.
  for (const int64_t n : instances)
    numbers.push_back(n == 0 ? 0 : -std::expm1(static_cast<double>(n) * std::log1p(-(1 - beta))) / (1 - beta));
  return numbers;
}

std::vector<double> class_balanced_weights(std::span<const int64_t> instances, double beta) {
  std::vector<double> weights = effective_numbers(instances, beta);
  double sum = 0, present = 0;
  for (const double E : weights)
    if (E > 0) sum += 1 / E, ++present;
  for (double& w : weights) w = w > 0 ? present / w / sum : 1;
  return weights;
}

namespace {

template <class Base>
class ClassBalancedLoss final : public ClassificationLoss {
 public:
  ClassBalancedLoss(Context& context, const Base& base, const LossConfig& config, const ClassInfo& classes)
      : known_(!classes.instances.empty()) {
    std::vector<double> weights = class_balanced_weights(classes.instances, config.class_balanced.beta);
    weights.resize(static_cast<size_t>(classes.count()), 1);
    weights_ = context.upload<double>(weights, {classes.count()});
    weights.push_back(config.class_balanced.background_weight);
    rounded_ = context.upload<float>(std::vector<float>(weights.begin(), weights.end()), {classes.count() + 1});
    const kernels::ClassBalanced<Base> member{base, rounded_.view().data(), config.class_balanced.apply == "row"};
    family_ = std::make_unique<SigmoidFamily<kernels::ClassBalanced<Base>>>(member, config, classes.count());
  }

  [[nodiscard]] int channels() const override { return family_->channels(); }
  [[nodiscard]] std::vector<float> bias_init() const override { return family_->bias_init(); }
  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override { return family_->scores(tape, logits); }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed& summed) override {
    require_instances(known_, "class_balanced");
    return family_->loss(tape, rows, normalizer, summed);
  }

  // Made of the annotations: a training goes on with the weights that it began with.
  [[nodiscard]] std::vector<TrainingState> state() override {
    if (!known_) return {};
    return {{.name = "class_balanced.weights", .values = &weights_, .fixed = true}};
  }

 private:
  bool known_;
  Tensor weights_;  // (C) doubles
  Tensor rounded_;  // (C + 1) as the kernel takes them, the background's behind
  std::unique_ptr<SigmoidFamily<kernels::ClassBalanced<Base>>> family_;
};

}  // namespace

std::unique_ptr<ClassificationLoss> make_class_balanced(Context& context, const LossConfig& config,
                                                        const ClassInfo& classes) {
  const ClassBalancedConfig& options = config.class_balanced;
  if (!(options.beta >= 0 && options.beta < 1))
    throw std::invalid_argument("model.loss.class_balanced.beta must be at least 0 and below 1");
  if (!(options.gamma >= 0)) throw std::invalid_argument("model.loss.class_balanced.gamma must not be negative");
  if (!(options.background_weight >= 0 && std::isfinite(options.background_weight)))
    throw std::invalid_argument("model.loss.class_balanced.background_weight must not be negative");
  if (options.base == "focal")
    return std::make_unique<ClassBalancedLoss<kernels::Focal>>(context, kernels::Focal{.gamma = options.gamma}, config,
                                                               classes);
  return std::make_unique<ClassBalancedLoss<kernels::CrossEntropy>>(context, kernels::CrossEntropy{}, config, classes);
}

}  // namespace gradlibra
