// SPDX-License-Identifier: MIT
// Ground truth of a batch on the device, and what a head's losses make of it.
#pragma once

#include <string>
#include <vector>

#include "runtime/device/context.h"

namespace gradlibra {

// Height and width of the network's input are multiples of this; an image alone would be padded to the next ones.
inline constexpr int kSizeDivisor = 32;

// Padded: the first counts[n] of max_boxes entries are real.
struct GroundTruth {
  Tensor boxes;   // (N, M, 4) float, network pixels
  Tensor labels;  // (N, M) int32
  Tensor counts;  // (N) int32
  // Of the images, as in ImageBatch: cells in the padding of a smaller image are left out of assignment and losses.
  // Both empty: no image has such.
  Tensor sizes = {};         // (N, 2) int32
  Tensor orientations = {};  // (N) int32
};

// One loss value, already weighted and normalised: a double on the device.
struct LossTerm {
  std::string name;  // MMDetection's: "loss_cls"
  Tensor value;
};

// A detected object in network pixels.
struct ScoredBox {
  float x1, y1, x2, y2;
  float score;
  int label;
};

}  // namespace gradlibra
