// SPDX-License-Identifier: MIT
// How central a point lies in its box (FCOS, arXiv:1904.01355, sec. 3.3): what FCOS and ATSS weigh their box losses by
// and predict as a factor of scores.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With l, t, r, b the distances of prior (x, y) from the sides of the row's box:
//   centerness = sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))     in [0, 1]
// of rows with weight != 0, and 0 of others, whatever their boxes hold. A point on the border or outside has 0; NaN
// stays NaN. sum[0] = the sum over all rows of the float values, in double and a fixed order.
// priors (P, 3): x, y, stride; boxes (N, P, 4) corners; weights, centerness (N, P); sum (1). N*P may be 0: sum 0.
// workspace: centerness_workspace(N*P) doubles, the partial sums of kCenternessRows rows each.
inline constexpr int kCenternessRows = 256;
int64_t centerness_workspace(int64_t rows);
void centerness_targets(Cpu&, View<const float> priors, View<const float> boxes, View<const float> weights,
                        View<float> centerness, View<double> sum, View<double> workspace);
void centerness_targets(Cuda&, View<const float> priors, View<const float> boxes, View<const float> weights,
                        View<float> centerness, View<double> sum, View<double> workspace);

// What both versions check first.
void check_centerness_targets(View<const float> priors, View<const float> boxes, View<const float> weights,
                              View<float> centerness, View<double> sum, View<double> workspace);

// One row: in double, where differences of float coordinates are exact.
GRADLIBRA_HOST_DEVICE inline float centerness_of(const float* prior, const float* box) {
  double ratio = 1;
  for (int axis = 0; axis < 2; ++axis) {
    const double before = static_cast<double>(prior[axis]) - static_cast<double>(box[axis]);
    const double behind = static_cast<double>(box[axis + 2]) - static_cast<double>(prior[axis]);
    if (before <= 0 || behind <= 0) return 0;
    ratio *= before < behind ? before / behind : behind / before;
  }
  return static_cast<float>(std::sqrt(ratio));
}

}  // namespace gradlibra::kernels
