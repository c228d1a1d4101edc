// SPDX-License-Identifier: MIT
// A detector over a data set, shared out among ranks.
#pragma once

#include <functional>

#include "data/metrics/metrics.h"
#include "engine/experiment_config.h"
#include "models/detector.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

// What progress() throws to break a validation off: then it is broken off on every rank.
struct BrokenOff {
  int signal = 0;
};

// Each rank takes every world_size-th batch; all of them get all detections. The batches are those of one process, so
// that the detections have the same bits for any number of ranks. progress(done, total) tells of this rank's part. An
// error on one rank is an AgreedError on all; a BrokenOff of one is thrown on all when they have done their parts.
[[nodiscard]] Detections detect_on_ranks(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                                         Communicator& ranks,
                                         const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace gradlibra
