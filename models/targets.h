// SPDX-License-Identifier: MIT
// Ground truth of a batch on the device, and what a head's losses make of it.
#pragma once

#include <string>
#include <vector>

#include "runtime/device/context.h"

namespace gradlibra {

// Padded: the first counts[n] of max_boxes entries are real.
struct GroundTruth {
  Tensor boxes;   // (N, M, 4) float, network pixels
  Tensor labels;  // (N, M) int32
  Tensor counts;  // (N) int32
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
