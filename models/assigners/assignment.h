// SPDX-License-Identifier: MIT
// Which cell answers for which object, what the losses are told about it, and what they are divided by. Every assigner
// of this folder is a free function from boxes or priors and ground truth to an Assignment; a head calls the one it
// means.
#pragma once

#include <string>

#include "models/targets.h"
#include "runtime/autograd/tape.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

struct Assignment {
  Tensor matched;  // (N, P) int32: 0 background, -1 ignored, k > 0 = ground truth k - 1
  Tensor counts;   // (4) doubles of this rank, by Normalizer: kernels/boxes/assign.h, count_assigned
};
// Counts what an assigner has matched.
[[nodiscard]] Assignment counted(Tape& tape, Tensor matched);

// Rows of the losses, on the device.
struct Targets {
  Tensor labels;         // (N, P) int32: 0..C-1, C for background
  Tensor class_weights;  // (N, P): 0 for ignored rows, else 1
  Tensor boxes;          // (N, P, 4): the ground truth of a positive row, else 0
  Tensor box_weights;    // (N, P): 1 for a positive row, else 0
};
// `classes` is C. Of a stage that classifies nothing box_targets() is enough: labels and class_weights stay empty.
[[nodiscard]] Targets gather_targets(Tape& tape, const Assignment& assignment, const GroundTruth& truth, int classes);
[[nodiscard]] Targets box_targets(Tape& tape, const Assignment& assignment, const GroundTruth& truth);

// What the sums over rows are divided by; the value is the index into Assignment::counts.
enum class Normalizer : int {
  num_pos = 0,             // positive rows
  num_valid = 1,           // rows that are not ignored
  num_pos_image_min1 = 2,  // positive rows, at least 1 per image
  pos_plus_neg = 3,        // both, at least 1 of each per image
};
// By the names above; std::invalid_argument names model.loss.normalizer.
[[nodiscard]] Normalizer parse_normalizer(const std::string& name);
// The same for what only positive rows take part in, boxes and centerness: rows without an object do not count there.
[[nodiscard]] inline Normalizer of_positives(Normalizer kind) {
  return kind == Normalizer::num_valid ? Normalizer::num_pos : kind;
}

// (1) double on the device: a count that has been summed over ranks, at least 1 for each of them. Losses and gradients
// are divided by it and then summed over ranks, so that all count as if they were of one.
[[nodiscard]] Tensor normalizer(Tape& tape, const Assignment& summed, Normalizer kind, int ranks);

}  // namespace gradlibra
