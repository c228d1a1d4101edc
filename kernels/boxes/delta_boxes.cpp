// SPDX-License-Identifier: MIT
// Boxes from deltas on the host. Both axes of a box follow the same one-dimensional formulas.
#include "kernels/boxes/delta_boxes.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t check_deltas(const char* op, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                     const Shape& boxes) {
  require(deltas.rank() == 3 && deltas.dim(2) == 4, op, "deltas must be (N, P, 4), are " + deltas.shape().to_string());
  require_shape(op, "anchors", anchors, {deltas.dim(1), 4});
  require_shape(op, "boxes", boxes, deltas.shape());
  require(coder.centre_clamp >= 0, op, "centre_clamp must not be negative, is " + std::to_string(coder.centre_clamp));
  return deltas.dim(0) * deltas.dim(1);
}

void decode_deltas(Cpu& cpu, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                   View<float> boxes) {
  const int64_t rows = check_deltas("decode_deltas", anchors, deltas, coder, boxes.shape()), P = deltas.dim(1);
  parallel_for(cpu, rows, 1024, [&](int64_t row) {
    const float *anchor = anchors.data() + 4 * (row % P), *delta = deltas.data() + 4 * row;
    float* box = boxes.data() + 4 * row;
    for (int axis = 0; axis < 2; ++axis) {
      const DeltaAxis a = delta_axis(anchor[axis], anchor[2 + axis], delta[axis], delta[2 + axis], coder);
      box[axis] = a.centre - a.size * 0.5f;
      box[2 + axis] = a.centre + a.size * 0.5f;
    }
  });
}

void decode_deltas_backward(Cpu& cpu, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                            View<const float> grad_boxes, View<float> grad_deltas, Accumulate mode) {
  const char* op = "decode_deltas_backward";
  const int64_t rows = check_deltas(op, anchors, deltas, coder, grad_boxes.shape()), P = deltas.dim(1);
  require_shape(op, "grad_deltas", grad_deltas, deltas.shape());
  const bool add = mode == Accumulate::add;
  parallel_for(cpu, rows, 1024, [&](int64_t row) {
    const float *anchor = anchors.data() + 4 * (row % P), *delta = deltas.data() + 4 * row,
                *grad_box = grad_boxes.data() + 4 * row;
    float* grad = grad_deltas.data() + 4 * row;
    for (int axis = 0; axis < 2; ++axis) {
      const DeltaAxis a = delta_axis(anchor[axis], anchor[2 + axis], delta[axis], delta[2 + axis], coder);
      const float grad_lo = grad_box[axis], grad_hi = grad_box[2 + axis];
      const float by_shift = a.moves ? (grad_lo + grad_hi) * a.grad_shift : 0;
      const float by_log = a.grows ? (grad_hi - grad_lo) * 0.5f * a.grad_log : 0;
      grad[axis] = add ? grad[axis] + by_shift : by_shift;
      grad[2 + axis] = add ? grad[2 + axis] + by_log : by_log;
    }
  });
}

}  // namespace gradlibra::kernels
