// SPDX-License-Identifier: MIT
// A model on paper of data-parallel training: when gradients are ready, when they have been summed over ranks, and what
// of that the step does not hide.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/detector.h"

namespace gradlibra {

// What connects the ranks. Rates are those that a ring moves past a rank (nccl-tests' "bus bandwidth").
struct Interconnect {
  int ranks_per_host = 8;
  double host_bytes_per_s = 360e9;    // inside a host
  double network_bytes_per_s = 45e9;  // between hosts, for each rank
  double host_latency_s = 2e-6;       // of one hop
  double network_latency_s = 10e-6;
};

// Seconds of an all-reduce of so many bytes: inside a host a ring, 2 (n-1)/n bytes at the rate and 2 (n-1) hops; over
// hosts reduce-scatter inside, all-reduce of each rank's share between the hosts (2 (h-1)/h of it at the network's
// rate, 2 log2 h hops, as a tree has), all-gather inside. 0 for one rank. ranks is 1, at most a host's, or a multiple
// of it (std::invalid_argument otherwise).
[[nodiscard]] double all_reduce_seconds(double bytes, int ranks, const Interconnect& links);

// A stretch of the backward pass, in the order in which it runs.
struct BackwardPart {
  std::string name;
  double seconds = 0;
  double gradient_bytes = 0;  // ready evenly over its time
};

// A step of `step_seconds` on one rank as forward, backward and the rest: convolutions cost by their multiply-adds,
// backward twice forward (once where nothing flows on, not at all where nothing is trained); `rest_share` of the step
// (assignment, losses, update) has no gradients to wait for.
struct StepModel {
  double forward_seconds = 0, rest_seconds = 0;
  std::vector<BackwardPart> backward;  // the head first, the stem last
  [[nodiscard]] double seconds() const;
  [[nodiscard]] double gradient_bytes() const;
};
[[nodiscard]] StepModel step_model(const std::vector<Detector::PartCost>& parts, double step_seconds,
                                   double rest_share = 0.05);

// A bucket of gradients as a step began its sum: its size, and which part of forward and backward was done by then.
struct ReadyBucket {
  double bytes = 0, share = 0;
};
// "1.14@61.2,25.3@80": megabytes (2^20 bytes) at per cent, as `benchmark comm` prints them, in the order of the step.
// std::invalid_argument names what is no such list.
[[nodiscard]] std::vector<ReadyBucket> parse_buckets(const std::string& text);
[[nodiscard]] std::string to_string(std::span<const ReadyBucket> buckets);

struct ScalingOptions {
  double bucket_bytes = 25 << 20, first_bucket_bytes = 1 << 20;
  // Small sums that the step waits for: normalisers before the losses, losses and flags behind them.
  int small_reductions = 2;
  // Standard deviation of a rank's step time as a share of it. The step waits for the slowest: E[max of n] is about
  // sqrt(2 ln n) deviations.
  double jitter = 0.005;
  std::vector<ReadyBucket> replay;  // measured buckets; empty: those of the model
};

struct ScalingResult {
  int ranks = 1;
  int buckets = 0;
  double all_reduce_seconds = 0;  // of all buckets, if nothing were hidden
  double exposed_seconds = 0;     // of them behind the end of the backward pass
  double small_seconds = 0, straggler_seconds = 0;
  double step_seconds = 0;
  double efficiency = 1;  // step_seconds of one rank over these
};

// Plays a step: a bucket is filled from the end of the network, and summed when it is full and the one before it is
// done, while backward goes on. Or with measured buckets, whose shares are of forward and backward.
[[nodiscard]] ScalingResult simulate_step(const StepModel& step, int ranks, const Interconnect& links,
                                          const ScalingOptions& options = {});

[[nodiscard]] std::string scaling_table(const StepModel& step, std::span<const int> ranks, const Interconnect& links,
                                        const ScalingOptions& options);

}  // namespace gradlibra
