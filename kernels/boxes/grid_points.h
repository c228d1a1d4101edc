// SPDX-License-Identifier: MIT
// Regular grids of points on regressed boxes: RepPoints with boxes in place of free point sets (arXiv:1904.11490,
// sec. 4.2, its baseline of bounding boxes), as MMDetection computes them.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// The least width and height of a previous box: of one without size nothing could grow.
inline constexpr float kLeastGridSide = 1e-6f;

// A grid along one axis: the box from `first` to `first + extent`.
struct GridAxis {
  float first, extent;
  float previous;  // the size of the previous box
};
// From a previous box's side (lo, hi), a shift in units of its size, and the logarithm of how much it grows. NaN passes
// through.
GRADLIBRA_HOST_DEVICE inline GridAxis grid_axis(float lo, float hi, float shift, float log_growth) {
  const float size = hi - lo < kLeastGridSide ? kLeastGridSide : hi - lo;
  const float extent = size * std::exp(log_growth);
  return {(lo + hi) / 2 + size * shift - extent / 2, extent, size};
}
// Where point j of a side of n lies, as a part of the extent: 0, .., 1.
GRADLIBRA_HOST_DEVICE inline float grid_place(int j, int n) {
  return static_cast<float>(j) / static_cast<float>(n - 1);
}

// Boxes that the regression is relative to, (.., 4) as (x1, y1, x2, y2); without memory all are (-half, -half, half,
// half). No gradient flows into them.
struct PreviousBoxes {
  View<const float> boxes{};
  float half = 0;
};

// Row r: with (dx, dy, dw, dh) = regression[r], previous centre c and size s (at least 1e-6),
//   size = s * exp(dw, dh)     centre = c + s * (dx, dy)     box = centre -+ size / 2
//   points = the n x n regular grid on the box, its corners included: rows first, (y, x) interleaved
// regression (.., 4), points (.., 2*n*n) with n >= 2, boxes (.., 4) or without memory, then they are not written;
// leading dimensions are rows, of which there may be 0. Coordinates have any unit: in a head strides, relative to the
// cell.
void grid_points(Cpu&, View<const float> regression, const PreviousBoxes& previous, View<float> points,
                 View<float> boxes);
void grid_points(Cuda&, View<const float> regression, const PreviousBoxes& previous, View<float> points,
                 View<float> boxes);

// grad_regression (+)= the gradient of the points through the above, summed over points in ascending order.
void grid_points_backward(Cpu&, View<const float> regression, const PreviousBoxes& previous,
                          View<const float> grad_points, const GradTarget<>& grad_regression);
void grid_points_backward(Cuda&, View<const float> regression, const PreviousBoxes& previous,
                          View<const float> grad_points, const GradTarget<>& grad_regression);

// What both versions check first.
struct GridDims {
  int64_t rows;
  int n;
};
GridDims grid_points_dims(const char* op, View<const float> regression, const PreviousBoxes& previous,
                          const Shape& points);

}  // namespace gradlibra::kernels
