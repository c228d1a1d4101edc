// SPDX-License-Identifier: MIT
#include "runtime/training/gradient_buckets.h"

#include "runtime/device/profiling.h"

namespace gradlibra {

GradientBuckets::GradientBuckets(ParameterStore& parameters, Communicator& communicator, const BucketConfig& config)
    : parameters_(parameters), communicator_(communicator) {
  if (communicator.world_size() == 1) return;
  if (const View<float> memory = communicator.memory_for_sums(parameters.flat_grads().size()); memory.size() > 0)
    parameters.move_gradients(memory);
  constexpr double kFloatsOfMb = double{1 << 20} / sizeof(float);
  size_t last = parameters.all().size();
  Bucket bucket;
  for (size_t i = last; i-- > 0;) {
    const Parameter& p = parameters.all()[i];
    if (p.trainable) {
      ++bucket.size;
      bucket_of_[&p.node] = buckets_.size();
    }
    bucket.parameters = {i, last};
    bucket.gradients = parameters.extent(bucket.parameters);
    const double filled = static_cast<double>(bucket.gradients.end - bucket.gradients.begin) / kFloatsOfMb;
    if (i > 0 && filled < (buckets_.empty() ? config.first_mb : config.mb)) continue;
    bucket.waiting_for = bucket.size;
    if (bucket.size > 0) buckets_.push_back(bucket);
    bucket = {};
    last = i;
  }
}

void GradientBuckets::ready(const Node& gradient) {
  const auto found = bucket_of_.find(&gradient);
  if (found == bucket_of_.end()) return;
  --buckets_[found->second].waiting_for;
  while (next_ < buckets_.size() && buckets_[next_].waiting_for == 0) begin(buckets_[next_++]);
}

void GradientBuckets::begin(Bucket& bucket) {
  bucket.waiting_for = bucket.size;
  parameters_.finish_backward(bucket.parameters);
  const ParameterStore::Extent part = bucket.gradients;
  const View<float> gradients(parameters_.flat_grads().view().data() + part.begin, {part.end - part.begin});
  profiled("begin all-reduce", [&] { communicator_.begin_sum(gradients); });
}

void GradientBuckets::finish() {
  if (buckets_.empty()) {
    parameters_.finish_backward();
    return;
  }
  while (next_ < buckets_.size()) begin(buckets_[next_++]);
  next_ = 0;
  profiled("all-reduce", [&] { communicator_.join_sums(); });
}

}  // namespace gradlibra
