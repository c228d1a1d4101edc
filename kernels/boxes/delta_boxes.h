// SPDX-License-Identifier: MIT
// Boxes as deltas from anchors (the coder of Faster R-CNN, arXiv:1506.01497, sec. 3.1.2, with YOLOF's clamp of the
// centre), and back.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// |ln(16 / 1000)|: no box is more than 62.5 times as wide or high as its anchor.
inline constexpr float kMaxLogRatio = 4.135166556742356f;

struct DeltaCoder {
  float std_centre = 1, std_size = 1;  // deltas are multiplied by them
  // Pixels by which the centre may move along an axis (arXiv:2103.09460). 0: as far as it likes, but then no box is
  // more than 62.5 times smaller than its anchor either.
  float centre_clamp = 0;
};

// A box along one axis.
struct DeltaAxis {
  float centre, size;
  bool moves, grows;           // false where the shift or the logarithm of the size is held: no gradient there
  float grad_shift, grad_log;  // else the derivatives of centre and size by their deltas
};
// From an anchor's side (lo, hi) and its two deltas. NaN passes through.
GRADLIBRA_HOST_DEVICE inline DeltaAxis delta_axis(float lo, float hi, float delta, float log_size,
                                                  const DeltaCoder& coder) {
  const float extent = hi - lo, limit = coder.centre_clamp;
  float shift = extent * (delta * coder.std_centre), growth = log_size * coder.std_size;
  bool moves = true, grows = true;
  if (limit > 0 && shift > limit) shift = limit, moves = false;
  if (limit > 0 && shift < -limit) shift = -limit, moves = false;
  if (growth > kMaxLogRatio) growth = kMaxLogRatio, grows = false;
  if (limit == 0 && growth < -kMaxLogRatio) growth = -kMaxLogRatio, grows = false;
  const float size = extent * std::exp(growth);
  return {(lo + hi) * 0.5f + shift, size, moves, grows, extent * coder.std_centre, size * coder.std_size};
}

// The deltas that decode to `box`, if none is cut off. What a head would learn whose loss were on deltas; ATSS and
// YOLOF compare decoded boxes.
GRADLIBRA_HOST_DEVICE inline void encode_box(const float* anchor, const float* box, const DeltaCoder& coder,
                                             float* deltas) {
  for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
    const float extent = anchor[2 + axis] - anchor[axis], size = box[2 + axis] - box[axis];
    const float shift = (box[axis] + box[2 + axis]) * 0.5f - (anchor[axis] + anchor[2 + axis]) * 0.5f;
    deltas[axis] = shift / extent / coder.std_centre;
    deltas[2 + axis] = std::log(size / extent) / coder.std_size;
  }
}

// Row r of image n belongs to anchor r = (x1, y1, x2, y2), of centre p and size e. With d = (dx, dy, dw, dh) times the
// coder's factors (std_centre for dx and dy, std_size for dw and dh):
//   centre = p + clamp(e * (dx, dy), +-centre_clamp)     size = e * exp(clamp((dw, dh), +-kMaxLogRatio))
//   box = centre -+ size / 2                             without centre_clamp no clamp of the centre, with it none of
//                                                        the size from below
// anchors (P, 4), deltas (N, P, 4), boxes (N, P, 4) in pixels, not clipped to the image. N * P may be 0.
void decode_deltas(Cpu&, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                   View<float> boxes);
void decode_deltas(Cuda&, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                   View<float> boxes);

// grad_deltas (+)=. Through a clamp the gradient is 1 inside and on the limits, 0 outside.
void decode_deltas_backward(Cpu&, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                            View<const float> grad_boxes, View<float> grad_deltas, Accumulate mode);
void decode_deltas_backward(Cuda&, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                            View<const float> grad_boxes, View<float> grad_deltas, Accumulate mode);

// What all of them check first; they return the number of rows.
int64_t check_deltas(const char* op, View<const float> anchors, View<const float> deltas, const DeltaCoder& coder,
                     const Shape& boxes);

}  // namespace gradlibra::kernels
