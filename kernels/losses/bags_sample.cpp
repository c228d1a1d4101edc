// SPDX-License-Identifier: MIT
#include "kernels/losses/bags_sample.h"

#include <algorithm>
#include <string>

namespace gradlibra::kernels {

int64_t bags_sample_workspace(const Cpu&, int64_t R, int64_t) { return R; }

void check_bags_sample(View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of, double beta,
                       View<const double> state, View<uint8_t> sample, View<double> sums, View<int64_t> workspace,
                       int64_t workspace_size) {
  require(labels.rank() == 1 && group_of.rank() == 1, "bags_sample",
          "labels must be (R) and group_of (C), are " + labels.shape().to_string() + " and " +
              group_of.shape().to_string());
  require(sums.rank() == 1 && sums.size() >= 1, "bags_sample", "sums must be (G + 1), are " + sums.shape().to_string());
  require_shape("bags_sample", "weights", weights, labels.shape());
  require_shape("bags_sample", "state", state, {2});
  require_shape("bags_sample", "sample", sample, {labels.size(), sums.size() - 1});
  require(beta >= 0, "bags_sample", "beta must not be negative, is " + std::to_string(beta));
  require(workspace.size() >= workspace_size, "bags_sample", "workspace is too small");
}

void bags_sample(Cpu& cpu, View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of,
                 double beta, View<const double> state, int rank, View<uint8_t> sample, View<double> sums,
                 View<int64_t> workspace) {
  const int64_t R = labels.size(), G = sums.size() - 1, C = group_of.size();
  check_bags_sample(labels, weights, group_of, beta, state, sample, sums, workspace, bags_sample_workspace(cpu, R, G));
  const auto group = [&](int64_t i) { return bags_group(labels[i], weights[i], group_of.data(), C); };
  auto* hashes = reinterpret_cast<uint64_t*>(workspace.data());
  sums[0] = 0;
  for (int64_t i = 0; i < R; ++i) sums[0] += group(i) >= 0;

  for (int64_t g = 1; g <= G; ++g) {
    const uint64_t prefix = bags_hash_prefix(static_cast<uint64_t>(state[0]), static_cast<uint64_t>(state[1]),
                                             static_cast<uint64_t>(rank), static_cast<uint64_t>(g));
    int64_t own = 0, others = 0;
    for (int64_t i = 0; i < R; ++i) {
      if (group(i) == g)
        ++own;
      else if (group(i) >= 0)
        hashes[others++] = bags_hash_next(prefix, static_cast<uint64_t>(i));
    }
    const int64_t k = bags_others(beta, own, others);
    uint64_t limit = 0;  // the k-th smallest
    if (k > 0) {
      std::nth_element(hashes, hashes + k - 1, hashes + others);
      limit = hashes[k - 1];
    }
    sums[g] = 0;
    for (int64_t i = 0; i < R; ++i) {
      const int its = group(i);
      const bool chosen = its == g || (its >= 0 && k > 0 && bags_hash_next(prefix, static_cast<uint64_t>(i)) <= limit);
      sample[i * G + g - 1] = chosen;
      if (chosen) sums[g] += double{weights[i]};
    }
  }
}

}  // namespace gradlibra::kernels
