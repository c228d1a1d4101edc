// SPDX-License-Identifier: MIT
// A classification loss of the sigmoid family: one channel and one sigmoid per class, no state. The member of
// kernels/losses/ is the method.
#pragma once

#include <cmath>

#include "models/config.h"
#include "models/losses/classification_loss.h"
#include "runtime/autograd/ops/loss.h"

namespace gradlibra {

// Every score starts at the prior probability (arXiv:1708.02002, sec. 4.1), so that the many negatives do not swamp the
// start.
[[nodiscard]] inline float prior_bias(double probability) {
  return static_cast<float>(-std::log((1 - probability) / probability));
}

template <class Member>
class SigmoidFamily final : public ClassificationLoss {
 public:
  SigmoidFamily(const Member& member, const LossConfig& config, int classes)
      : member_(member), weight_(config.weight), prior_(config.prior_probability), classes_(classes) {}

  [[nodiscard]] int channels() const override { return classes_; }

  [[nodiscard]] std::vector<float> bias_init() const override {
    return std::vector<float>(static_cast<size_t>(classes_), prior_bias(prior_));
  }

  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    Tensor result = tape.buffer(logits.shape());
    tape.run([&](auto& device) { kernels::sigmoid(device, logits.view(), result.view()); });
    return result;
  }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed&) override {
    return ops::sigmoid_loss(tape, rows.logits, rows.labels, rows.weights, member_, weight_, normalizer);
  }

 private:
  Member member_;
  double weight_, prior_;
  int classes_;
};

}  // namespace gradlibra
