// SPDX-License-Identifier: MIT
// The classification loss of a detector, chosen by name. Interface for losses with own channels and state as well.
#pragma once

#include <memory>
#include <vector>

#include "models/config.h"
#include "runtime/tape.h"
#include "runtime/weights.h"

namespace gradlibra {

class ClassificationLoss {
 public:
  virtual ~ClassificationLoss() = default;
  // Output channels of the classifier per location for C foreground classes, and the start value of its bias per channel.
  [[nodiscard]] virtual int channels(int classes) const = 0;
  [[nodiscard]] virtual std::vector<float> bias_init(int classes) const = 0;
  // Class scores used for detection: logits (..., channels) to scores (..., classes).
  virtual void scores(Context& context, View<const float> logits, View<float> scores) const = 0;
  // The value, a double on the device; writes the gradient into the logits. labels, weights (rows) as in kernels/sigmoid_loss.h.
  [[nodiscard]] virtual Tensor loss(Tape& tape, Var logits, const Tensor& labels, const Tensor& weights,
                                    const Tensor& normalizer) = 0;
  // What the loss accumulates over the training and a checkpoint must keep. None for a loss without state.
  [[nodiscard]] virtual std::vector<TrainingState> state() { return {}; }
};

// cross_entropy, focal, grad_libra. std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_classification_loss(const LossConfig& config);

}  // namespace gradlibra
