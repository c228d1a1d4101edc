// SPDX-License-Identifier: MIT
// `benchmark comm`: how fast the ranks of a job sum, and how much of that a training step hides.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/training_step.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

struct CommunicationOptions {
  std::vector<double> megabytes{0.001, 0.0625, 1, 4, 25, 100};  // of the sums that are timed
  StepBenchmarkOptions step;                                    // batch: of each rank
  int rounds = 3;  // of `step.steps` steps with and as many without sums of gradients, in turn
};

// Every rank calls it, with the same options. Returns on each rank what --json prints:
//   sums   for each size the median time of a sum, and the bus bandwidth: 2 (W - 1) / W of the bytes over that time,
//          which is what a ring moves past a rank
//   step   a training step as it is, one whose gradients stay with their rank (all else is the same), and all sums of
//          its buckets one after another with nothing beside them. What the first is slower than the second is exposed;
//          the rest of the third is hidden behind the backward pass. On a host also when each bucket was ready
//          (parse_buckets of engine/scaling.h); a GPU's host is ahead of it.
// std::invalid_argument for one rank, or options out of range.
[[nodiscard]] nlohmann::ordered_json benchmark_communication(Context& context, Communicator& communicator,
                                                             const ExperimentConfig& config, int classes,
                                                             const CommunicationOptions& options);

[[nodiscard]] std::string communication_text(const nlohmann::ordered_json& result);

}  // namespace gradlibra
