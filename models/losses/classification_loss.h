// SPDX-License-Identifier: MIT
// What a head asks of a classification loss. One file per loss in this folder; README.md says how to add one.
#pragma once

#include <memory>
#include <vector>

#include "models/classes.h"
#include "runtime/autograd/tape.h"
#include "runtime/training/weights.h"

namespace gradlibra {

struct LossConfig;

// All rows of a batch, from all levels and images at once.
struct Rows {
  Var logits;             // (N, P, channels)
  const Tensor& labels;   // (N, P) int32: 0..C-1, C for background
  const Tensor& weights;  // (N, P): a row of weight 0 counts for nothing, whatever its logits hold
  int rank = 0;           // whose rows they are: a loss that draws some of them draws others on each rank
};

// What before() gave, summed over the ranks.
struct Summed {
  const Tensor& values;
  int ranks = 1;
};

// Where the diagnostics of a training find the classes among the channels of a loss (models/losses/recorded_loss.h).
struct ClassLogits {
  std::vector<int32_t> channels = {};  // of each class; empty: class c has channel c
  // false: a row takes part in a class other than its own only where the gradient of that logit is not 0.
  bool every_row = true;
};

// Made on a context from its options and a ClassInfo. Within a step the head calls, once each and on every rank:
//   before(), whose result it sums over ranks in one reduction with its normalisers; loss().
// After the backward pass the training step sums increments() over ranks, in one reduction with the losses, and calls
// commit(), whether there are any or not. Nothing here may wait for the device: a step is recorded once and replayed.
class ClassificationLoss {
 public:
  virtual ~ClassificationLoss() = default;
  // Output channels of the classifier per cell, and where the bias of each starts.
  [[nodiscard]] virtual int channels() const = 0;
  [[nodiscard]] virtual std::vector<float> bias_init() const = 0;
  // Whether its channels tell objects from background by themselves. YOLOF's objectness is left out then; with all
  // other losses it is joined to every class logit.
  [[nodiscard]] virtual bool has_objectness() const { return false; }
  // Class scores for detection, (N, P, channels) to (N, P, C). In mode `shapes` an empty tensor.
  [[nodiscard]] virtual Tensor scores(Tape& tape, Var logits) const = 0;

  // Doubles (one dimension) that the loss needs from all ranks; empty for a loss that needs none.
  [[nodiscard]] virtual Tensor before(Tape&, const Rows&) { return {}; }
  // The value, a double on the device; its gradient is written into the logits (ops::with_loss_gradient). normalizer:
  // (1) double.
  [[nodiscard]] virtual Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed& summed) = 0;
  // Doubles (one dimension) by which this step changes the state, of this rank; empty for a loss without such.
  [[nodiscard]] virtual Tensor increments() { return {}; }
  // The step has ended. Takes over its increments, which have been summed over ranks (an empty view if there are none).
  // ok: (1), on the device; not finite if no rank made its update, in which case the state must stay as it is.
  virtual void commit(Context&, View<const double> /*summed*/, View<const float> /*ok*/) {}
  // What it accumulates over a training and a checkpoint must keep. None for a loss without state.
  [[nodiscard]] virtual std::vector<TrainingState> state() { return {}; }

  // For diagnostics. What loss() divided the gradient of each class's logit by, (C) doubles on the device; null: by the
  // normalizer that it was given.
  [[nodiscard]] virtual ClassLogits class_logits() const { return {}; }
  [[nodiscard]] virtual const Tensor* class_normalizers() const { return nullptr; }
  // What is recorded, as of kernels::add_class_gradients; null if nothing is.
  [[nodiscard]] virtual const Tensor* class_gradients() const { return nullptr; }
};

// std::invalid_argument unless the classes' instances are known, for a loss of that kind which needs them.
void require_instances(bool known, const char* kind);

// Values of model.loss.type.
[[nodiscard]] std::vector<std::string> loss_kinds();
// The loss of config.type. std::invalid_argument names the key for values out of range.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_classification_loss(Context& context, const LossConfig& config,
                                                                           const ClassInfo& classes);

}  // namespace gradlibra
