// SPDX-License-Identifier: MIT
// How many rows each label has: what losses that look at the classes' frequencies start from.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// counts[k] = number of rows i with labels[i] == k and weights[i] != 0, for 0 <= k < K; other labels are not counted.
// labels (R), weights (R), counts (K) doubles, which hold whole numbers; R may be 0. K <= kMostLabels. workspace:
// count_labels_workspace(K) int32, for the device; a host needs none.
inline constexpr int64_t kMostLabels = 8192, kCountBlocks = 64;
constexpr int64_t count_labels_workspace(int64_t K) { return kCountBlocks * K; }
void count_labels(Cpu&, View<const int32_t> labels, View<const float> weights, View<double> counts,
                  View<int32_t> workspace);
void count_labels(Cuda&, View<const int32_t> labels, View<const float> weights, View<double> counts,
                  View<int32_t> workspace);

// What both versions check first.
void check_count_labels(View<const int32_t> labels, View<const float> weights, View<double> counts);

}  // namespace gradlibra::kernels
