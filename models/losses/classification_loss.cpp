// SPDX-License-Identifier: MIT
#include "models/losses/classification_loss.h"

#include <cmath>
#include <stdexcept>

#include "runtime/ops.h"

namespace gradlibra {

namespace {

// The losses of kernels/sigmoid_loss.h: one sigmoid per class, no state.
class SigmoidFamilyLoss final : public ClassificationLoss {
 public:
  SigmoidFamilyLoss(const kernels::SigmoidLoss& options, double weight, double prior)
      : options_(options), weight_(weight), prior_(prior) {}

  [[nodiscard]] int channels(int classes) const override { return classes; }

  // Every score starts at the prior probability (arXiv:1708.02002, sec. 4.1), so that the many negatives do not swamp the start.
  [[nodiscard]] std::vector<float> bias_init(int classes) const override {
    return std::vector<float>(static_cast<size_t>(classes), static_cast<float>(-std::log((1 - prior_) / prior_)));
  }

  void scores(Context& context, View<const float> logits, View<float> scores) const override {
    context.run([&](auto& device) { kernels::sigmoid(device, logits, scores); });
  }

  [[nodiscard]] Tensor loss(Tape& tape, Var logits, const Tensor& labels, const Tensor& weights,
                            const Tensor& normalizer) override {
    return ops::sigmoid_loss(tape, logits, labels, weights, options_, weight_, normalizer);
  }

 private:
  kernels::SigmoidLoss options_;
  double weight_, prior_;
};

double parse_alpha(const std::string& text, const char* key) {
  if (text == "off") return kernels::kWeightOff;
  try {
    size_t used = 0;
    const double value = std::stod(text, &used);
    if (used == text.size() && value >= 0 && value <= 1) return value;
  } catch (const std::logic_error&) {
    // Falls through to the one message for everything that is not a number in range.
  }
  throw std::invalid_argument(std::string("model.loss.") + key + ": '" + text +
                              "' is neither a number from 0 to 1 nor off");
}

}  // namespace

std::unique_ptr<ClassificationLoss> make_classification_loss(const LossConfig& config) {
  if (!(config.prior_probability > 0 && config.prior_probability < 1))
    throw std::invalid_argument("model.loss.prior_probability must lie between 0 and 1");
  kernels::SigmoidLoss options;
  if (config.type == "cross_entropy") {
    options.kind = kernels::LossKind::cross_entropy;
  } else if (config.type == "focal") {
    options.kind = kernels::LossKind::focal;
    options.gamma = config.focal_gamma;
    options.alpha = config.focal_alpha;
    if (!(options.gamma >= 0)) throw std::invalid_argument("model.loss.focal_gamma must not be negative");
    if (!(options.alpha <= 1)) throw std::invalid_argument("model.loss.focal_alpha must be at most 1 (negative: none)");
  } else if (config.type == "grad_libra") {
    options.kind = kernels::LossKind::grad_libra;
    options.alpha_pos = parse_alpha(config.alpha_pos, "alpha_pos");
    options.alpha_neg = parse_alpha(config.alpha_neg, "alpha_neg");
    options.weight_grad = config.weight_grad == "full" ? kernels::WeightGrad::full : kernels::WeightGrad::detach;
  } else {
    throw std::invalid_argument("model.loss.type: unknown loss '" + config.type + "'");
  }
  return std::make_unique<SigmoidFamilyLoss>(options, config.weight, config.prior_probability);
}

}  // namespace gradlibra
