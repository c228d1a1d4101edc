// SPDX-License-Identifier: MIT
// Differentiable operations that only YOLOF needs.
#pragma once

#include "models/targets.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// The channels of a map's anchors as rows: (N, H, W, A * channels) to (N, H * W * A, channels).
[[nodiscard]] Var anchor_rows(Tape&, Var x, int channels);

// logits (N, H, W, A * channels) and objectness (N, H, W, A) to joint logits (N, H * W * A, channels):
// kernels/losses/implicit_objectness.h.
[[nodiscard]] Var implicit_objectness(Tape&, Var logits, Var objectness, int channels);

// Predicted boxes (N, P, 4) and objects of matched pairs (N, 2k, M), as rows of a box loss:
// kernels/boxes/uniform_assign.h. `pairs` is shared with the backward pass.
struct PairedBoxes {
  Var boxes;       // (N, 2k, M, 4)
  Tensor targets;  // the same
  Tensor weights;  // (N, 2k, M): 1 for a kept pair, else 0
};
[[nodiscard]] PairedBoxes gather_pairs(Tape&, Var boxes, Tensor pairs, const GroundTruth& truth);

}  // namespace gradlibra::ops
