// SPDX-License-Identifier: MIT
// Boxes from deltas on the device: one thread per box; the four values of a box share a line.
#include "kernels/boxes/delta_boxes.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

struct Args {
  const float* anchors;
  const float* deltas;
  int64_t rows, P;
  DeltaCoder coder;
};

__device__ DeltaAxis axis_of(const Args& a, int64_t row, int axis) {
  const float *anchor = a.anchors + 4 * (row % a.P), *delta = a.deltas + 4 * row;
  return delta_axis(anchor[axis], anchor[2 + axis], delta[axis], delta[2 + axis], a.coder);
}

__global__ void decode_deltas_kernel(const Args a, float* __restrict__ boxes) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.rows) return;
  for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
    const DeltaAxis box = axis_of(a, row, axis);
    boxes[4 * row + axis] = box.centre - box.size * 0.5f;
    boxes[4 * row + 2 + axis] = box.centre + box.size * 0.5f;
  }
}

__global__ void decode_deltas_backward_kernel(const Args a, const float* __restrict__ grad_boxes, bool add,
                                              float* __restrict__ grad_deltas) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.rows) return;
  float* const grad = grad_deltas + 4 * row;
  for (int axis = 0; axis < 2; ++axis) {
    const DeltaAxis box = axis_of(a, row, axis);
    const float grad_lo = grad_boxes[4 * row + axis], grad_hi = grad_boxes[4 * row + 2 + axis];
    const float by_shift = box.moves ? (grad_lo + grad_hi) * box.grad_shift : 0;
    const float by_log = box.grows ? (grad_hi - grad_lo) * 0.5f * box.grad_log : 0;
    grad[axis] = add ? grad[axis] + by_shift : by_shift;
    grad[2 + axis] = add ? grad[2 + axis] + by_log : by_log;
  }
}

}  // namespace

void decode_deltas(Cuda& cuda, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                   View<float> boxes) {
  const int64_t rows = check_deltas("decode_deltas", anchors, deltas, coder, boxes.shape());
  if (rows == 0) return;
  launch(decode_deltas_kernel, blocks_for(rows, kBlock), kBlock, 0, cuda.stream(),
         Args{anchors.data(), deltas.data(), rows, deltas.dim(1), coder}, boxes.data());
}

void decode_deltas_backward(Cuda& cuda, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                            View<const float> grad_boxes, View<float> grad_deltas, Accumulate mode) {
  const char* op = "decode_deltas_backward";
  const int64_t rows = check_deltas(op, anchors, deltas, coder, grad_boxes.shape());
  require_shape(op, "grad_deltas", grad_deltas, deltas.shape());
  if (rows == 0) return;
  launch(decode_deltas_backward_kernel, blocks_for(rows, kBlock), kBlock, 0, cuda.stream(),
         Args{anchors.data(), deltas.data(), rows, deltas.dim(1), coder}, grad_boxes.data(), mode == Accumulate::add,
         grad_deltas.data());
}

}  // namespace gradlibra::kernels
