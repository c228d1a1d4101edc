// SPDX-License-Identifier: MIT
// A head: from the maps of a pyramid to losses, or to boxes with scores. A detector joins backbone, neck and head and
// knows no kind of head; models/heads/make_head.cpp lists them.
#pragma once

#include <span>
#include <vector>

#include "models/targets.h"
#include "runtime/autograd/tape.h"
#include "runtime/distributed/communicator.h"
#include "runtime/training/weights.h"

namespace gradlibra {

class ClassificationLoss;

// The last layer of a head's class branch: its weight (A * channels, ..), channel a * channels + k being channel k of
// the loss for anchor a, and the loss.
struct Classifier {
  const Parameter* weight = nullptr;
  ClassificationLoss* loss = nullptr;
};

// What the selection of detections needs, from any head. P = sum of level_rows.
struct Predictions {
  Var boxes;                        // (N, P, 4) x1, y1, x2, y2 in network pixels
  Tensor scores;                    // (N, P, C)
  Tensor factors;                   // (N, P) of the scores, behind the threshold; empty for a head without such
  std::vector<int64_t> level_rows;  // P of each level, the finest first
};

// Levels are those of the Pyramid that a head was built on; std::invalid_argument for another number of them.
// Intermediate values go out by name, through Tape::note.
class Head {
 public:
  virtual ~Head() = default;
  // Values of the losses; their gradients stand in the nodes of the tape, for tape.backward(). Every rank calls it,
  // also with a batch without objects. One call per step, with all images and levels: a loss may count calls.
  [[nodiscard]] virtual std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                                   Communicator& ranks) = 0;
  // In mode `shapes` nothing is computed: shapes, and costs of the layers.
  [[nodiscard]] virtual Predictions predict(Tape& tape, std::span<const Var> levels) = 0;
  // What its losses accumulate over a training: as of ClassificationLoss (models/losses/classification_loss.h), and
  // unless a head has more to say, what classifier().loss does. The training step sums the increments over ranks after
  // the backward pass and says whether the update was made, also where there are none.
  [[nodiscard]] virtual Tensor increments();
  virtual void commit(Context& context, View<const double> summed, View<const float> ok);
  // The same for checkpoints.
  [[nodiscard]] virtual std::vector<TrainingState> state();
  // Also what a training records of its classes (engine/class_diagnostics.h); nothing for a head without such.
  [[nodiscard]] virtual Classifier classifier() const { return {}; }
};

}  // namespace gradlibra
