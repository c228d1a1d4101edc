// SPDX-License-Identifier: MIT
// What the metrics share; internal to data/metrics/.
#pragma once

#include "data/metrics/metrics.h"

namespace gradlibra {

// std::invalid_argument naming image and object: lists of different lengths, labels without class, scores or
// coordinates that are not finite.
void check_metrics_input(const Dataset& dataset, const Detections& detections);

// A detection that counts, as VOC judges it.
struct VocMatch {
  double score;
  size_t image;
  bool right;  // the first on a truth of its class
};
// Of one class, the highest score first.
[[nodiscard]] std::vector<VocMatch> match_class(int label, const Dataset& dataset, const Detections& detections,
                                                const VocOptions& options);

}  // namespace gradlibra
