// SPDX-License-Identifier: MIT
// The sum of gradients over ranks, in buckets that are begun while the backward pass still computes the others.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "runtime/distributed/communicator.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

struct BucketConfig {
  double first_mb = 1;  // of the bucket that is ready first: the sooner it is, the sooner the network has work
  double mb = 25;       // of every other
};

// Cuts the flat gradients into neighbouring runs of whole parameters, from the last parameter, whose gradient is ready
// first, to the first; a bucket ends with the parameter that fills it. On one rank there is nothing to sum and only
// finish() does something.
//
// All ranks have the same buckets and begin them in this one order, whatever the order in which their gradients become
// ready: a bucket waits for the one before it.
class GradientBuckets {
 public:
  // After ParameterStore::allocate(), once a training, on all ranks at a time. Both outlive it. Gradients move to
  // memory that the communicator sums best, where it has such (Communicator::memory_for_sums).
  GradientBuckets(ParameterStore& parameters, Communicator& communicator, const BucketConfig& config);

  // Nothing will add to this gradient in the step: Tape::on_grad_ready. A bucket that is complete by it is finished
  // (ParameterStore::finish_backward) and its sum begun.
  void ready(const Node& gradient);
  // Behind the backward pass: what has not been ready by then, and the end of all sums. What is enqueued after it finds
  // in flat_grads() the sums over ranks.
  void finish();

  struct Bucket {
    ParameterStore::Range parameters;
    ParameterStore::Extent gradients;
    int waiting_for = 0;  // parameters, in this step
    int size = 0;         // trainable parameters
  };
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  void begin(Bucket& bucket);
  ParameterStore& parameters_;
  Communicator& communicator_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Node*, size_t> bucket_of_;
  size_t next_ = 0;  // bucket to begin
};

}  // namespace gradlibra
