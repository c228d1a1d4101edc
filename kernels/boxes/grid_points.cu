// SPDX-License-Identifier: MIT
// Grids of points on boxes on the device: one thread per box. A row's points are 72 bytes for nine of them; L1 joins
// what the threads of a warp write and read of them to whole lines.
#include "kernels/boxes/grid_points.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

struct Args {
  const float* regression;
  const float* previous;  // or null: squares
  float half;
  int64_t rows;
  int n;
};

// axis 0: x, 1: y.
__device__ GridAxis axis_of(const Args& a, int64_t row, int axis) {
  const bool square = a.previous == nullptr;
  const float* box = square ? nullptr : a.previous + 4 * row;
  return grid_axis(square ? -a.half : box[axis], square ? a.half : box[2 + axis], a.regression[4 * row + axis],
                   a.regression[4 * row + 2 + axis]);
}

__global__ void grid_points_kernel(const Args a, float* __restrict__ points, float* __restrict__ boxes) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.rows) return;
  const GridAxis x = axis_of(a, row, 0), y = axis_of(a, row, 1);
  float* point = points + row * 2 * a.n * a.n;
  for (int i = 0; i < a.n; ++i)
    for (int j = 0; j < a.n; ++j) {
      *point++ = y.first + y.extent * grid_place(i, a.n);
      *point++ = x.first + x.extent * grid_place(j, a.n);
    }
  if (boxes == nullptr) return;
  float* const box = boxes + 4 * row;
  box[0] = x.first;
  box[1] = y.first;
  box[2] = x.first + x.extent;
  box[3] = y.first + y.extent;
}

__global__ void grid_points_backward_kernel(const Args a, const float* __restrict__ grad_points, bool add,
                                            float* __restrict__ grad_regression) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.rows) return;
  const float* grad_point = grad_points + row * 2 * a.n * a.n;
  float moved[2] = {0, 0}, grown[2] = {0, 0};  // with respect to the centre and the extent
  for (int i = 0; i < a.n; ++i)
    for (int j = 0; j < a.n; ++j) {
      const float grad_y = *grad_point++, grad_x = *grad_point++;
      moved[0] += grad_x;
      moved[1] += grad_y;
      grown[0] += grad_x * (grid_place(j, a.n) - 0.5f);
      grown[1] += grad_y * (grid_place(i, a.n) - 0.5f);
    }
  float* const grad = grad_regression + 4 * row;
  for (int axis = 0; axis < 2; ++axis) {
    const GridAxis grid = axis_of(a, row, axis);
    const float by_shift = moved[axis] * grid.previous, by_log = grown[axis] * grid.extent;
    grad[axis] = add ? grad[axis] + by_shift : by_shift;
    grad[2 + axis] = add ? grad[2 + axis] + by_log : by_log;
  }
}

Args args_of(View<const float> regression, const PreviousBoxes& previous, const GridDims& d) {
  return {regression.data(), previous.boxes.data(), previous.half, d.rows, d.n};
}

}  // namespace

void grid_points(Cuda& cuda, View<const float> regression, const PreviousBoxes& previous, View<float> points,
                 View<float> boxes) {
  const GridDims d = grid_points_dims("grid_points", regression, previous, points.shape());
  if (boxes.data() != nullptr) require_shape("grid_points", "boxes", boxes, regression.shape());
  if (d.rows == 0) return;
  launch(grid_points_kernel, blocks_for(d.rows, kBlock), kBlock, 0, cuda.stream(), args_of(regression, previous, d),
         points.data(), boxes.data());
}

void grid_points_backward(Cuda& cuda, View<const float> regression, const PreviousBoxes& previous,
                          View<const float> grad_points, const GradTarget<>& grad_regression) {
  const char* op = "grid_points_backward";
  const GridDims d = grid_points_dims(op, regression, previous, grad_points.shape());
  require_shape(op, "grad_regression", grad_regression.grad, regression.shape());
  if (d.rows == 0) return;
  launch(grid_points_backward_kernel, blocks_for(d.rows, kBlock), kBlock, 0, cuda.stream(),
         args_of(regression, previous, d), grad_points.data(), grad_regression.adds(), grad_regression.grad.data());
}

}  // namespace gradlibra::kernels
