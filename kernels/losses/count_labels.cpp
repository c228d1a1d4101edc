// SPDX-License-Identifier: MIT
#include "kernels/losses/count_labels.h"

#include <algorithm>

namespace gradlibra::kernels {

void check_count_labels(View<const int32_t> labels, View<const float> weights, View<double> counts) {
  require(labels.rank() == 1, "count_labels", "labels must be (R), are " + labels.shape().to_string());
  require_shape("count_labels", "weights", weights, labels.shape());
  require(counts.rank() == 1 && counts.size() <= kMostLabels, "count_labels",
          "counts must be (K), K at most " + std::to_string(kMostLabels) + ", are " + counts.shape().to_string());
}

void count_labels(Cpu&, View<const int32_t> labels, View<const float> weights, View<double> counts, View<int32_t>) {
  check_count_labels(labels, weights, counts);
  std::fill_n(counts.data(), counts.size(), 0.0);
  for (int64_t i = 0; i < labels.size(); ++i)
    if (weights[i] != 0 && labels[i] >= 0 && labels[i] < counts.size()) ++counts[labels[i]];
}

}  // namespace gradlibra::kernels
