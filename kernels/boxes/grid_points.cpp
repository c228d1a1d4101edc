// SPDX-License-Identifier: MIT
// Grids of points on boxes on the host.
#include "kernels/boxes/grid_points.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

constexpr int64_t kRowsPerTask = 256;

// axis 0: x, 1: y.
GridAxis axis_of(View<const float> regression, const PreviousBoxes& previous, int64_t row, int axis) {
  const float* box = previous.boxes.data() == nullptr ? nullptr : previous.boxes.data() + 4 * row;
  return grid_axis(box == nullptr ? -previous.half : box[axis], box == nullptr ? previous.half : box[2 + axis],
                   regression[4 * row + axis], regression[4 * row + 2 + axis]);
}

}  // namespace

GridDims grid_points_dims(const char* op, View<const float> regression, const PreviousBoxes& previous,
                          const Shape& points) {
  require(regression.rank() >= 1 && regression.dim(-1) == 4, op,
          "regression must be (.., 4), is " + regression.shape().to_string());
  const int64_t rows = regression.size() / 4;
  if (previous.boxes.data() != nullptr) require_shape(op, "previous boxes", previous.boxes, regression.shape());
  const int64_t values = points.rank() >= 1 ? points.dim(-1) : 0;
  int n = 0;
  while (int64_t{2} * n * n < values) ++n;
  require(n >= 2 && int64_t{2} * n * n == values && points.size() == rows * values, op,
          "points must be (.., 2*n*n) for n >= 2 and as many rows as " + regression.shape().to_string() + ", are " +
              points.to_string());
  return {rows, n};
}

void grid_points(Cpu& cpu, View<const float> regression, const PreviousBoxes& previous, View<float> points,
                 View<float> boxes) {
  const auto [rows, n] = grid_points_dims("grid_points", regression, previous, points.shape());
  if (boxes.data() != nullptr) require_shape("grid_points", "boxes", boxes, regression.shape());
  parallel_for(cpu, rows, kRowsPerTask, [=, n = n, &previous](int64_t row) {
    const GridAxis x = axis_of(regression, previous, row, 0), y = axis_of(regression, previous, row, 1);
    float* point = points.data() + row * 2 * n * n;
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        *point++ = y.first + y.extent * grid_place(i, n);
        *point++ = x.first + x.extent * grid_place(j, n);
      }
    if (boxes.data() == nullptr) return;
    const float box[4] = {x.first, y.first, x.first + x.extent, y.first + y.extent};
    for (int k = 0; k < 4; ++k) boxes[4 * row + k] = box[k];
  });
}

void grid_points_backward(Cpu& cpu, View<const float> regression, const PreviousBoxes& previous,
                          View<const float> grad_points, const GradTarget<>& grad_regression) {
  const char* op = "grid_points_backward";
  const auto [rows, n] = grid_points_dims(op, regression, previous, grad_points.shape());
  require_shape(op, "grad_regression", grad_regression.grad, regression.shape());
  parallel_for(cpu, rows, kRowsPerTask, [=, n = n, &previous, &grad_regression](int64_t row) {
    const float* grad_point = grad_points.data() + row * 2 * n * n;
    float* grad = grad_regression.grad.data() + 4 * row;
    for (int axis = 0; axis < 2; ++axis) {
      const GridAxis grid = axis_of(regression, previous, row, axis);
      float moved = 0, grown = 0;  // with respect to the centre and the extent
      for (int k = 0; k < n * n; ++k) {
        const float g = grad_point[2 * k + 1 - axis];
        moved += g;
        grown += g * (grid_place(axis == 0 ? k % n : k / n, n) - 0.5f);
      }
      const float by_shift = moved * grid.previous, by_log = grown * grid.extent;
      grad[axis] = grad_regression.adds() ? grad[axis] + by_shift : by_shift;
      grad[2 + axis] = grad_regression.adds() ? grad[2 + axis] + by_log : by_log;
    }
  });
}

}  // namespace gradlibra::kernels
