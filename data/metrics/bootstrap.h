// SPDX-License-Identifier: MIT
// How far a metric depends on which images happened to be in the split.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/metrics/metrics.h"

namespace gradlibra {

// Of the values of a metric over resampled splits.
struct Spread {
  double deviation = 0;      // standard deviation
  double low = 0, high = 0;  // 2.5th and 97.5th percentile: the percentile interval
};

struct BootstrapResult {
  int samples = 0;
  std::optional<Spread> map;                   // empty: the metric had no value in any sample
  std::vector<std::optional<Spread>> classes;  // AP
  std::map<std::string, std::optional<Spread>> group_ap;
};

// The bootstrap (Efron, Annals of Statistics 7, 1979): draws as many images as there are, with replacement, `samples`
// times, and evaluates each. Detections and truths go with their image; a class that a sample has no truth of takes no
// part in its means. It says what other images would do to the number, nothing about other seeds of the training. The
// same seed gives the same result. samples >= 2; what voc_metrics throws.
[[nodiscard]] BootstrapResult bootstrap_metrics(const Dataset& dataset, const Detections& detections,
                                                const VocOptions& options, int samples, uint64_t seed = 0);

// A line for a person; empty if mAP had no value.
[[nodiscard]] std::string bootstrap_text(const BootstrapResult& result);
// Everything, with the classes by their names.
[[nodiscard]] std::string bootstrap_json(const BootstrapResult& result, const std::vector<std::string>& classes);

}  // namespace gradlibra
