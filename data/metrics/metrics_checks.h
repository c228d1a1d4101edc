// SPDX-License-Identifier: MIT
// What both metrics demand of their input; internal to data/metrics_*.cpp.
#pragma once

#include "data/metrics/metrics.h"

namespace gradlibra {

// std::invalid_argument naming image and object: lists of different lengths, labels without class, scores or
// coordinates that are not finite.
void check_metrics_input(const Dataset& dataset, const Detections& detections);

}  // namespace gradlibra
