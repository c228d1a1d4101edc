// SPDX-License-Identifier: MIT
// Point sets to boxes on the host. Both axes of a box follow the same one-dimensional formulas.
#include "kernels/boxes/points_to_boxes.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

// The coordinates of one axis: v[0], v[2], v[4], ... (offsets interleave y and x).
struct Axis {
  const float* v;
  int64_t K;
  float operator[](int64_t k) const { return v[2 * k]; }
};

struct Moments {
  float mean, deviation;
};
Moments moments(const Axis& a) {
  float shift = 0;
  for (int64_t k = 1; k < a.K; ++k) shift += a[k] - a[0];
  shift /= static_cast<float>(a.K);
  float squares = 0;
  for (int64_t k = 0; k < a.K; ++k) squares += (a[k] - a[0] - shift) * (a[k] - a[0] - shift);
  return {a[0] + shift, std::sqrt(squares / static_cast<float>(a.K - 1))};
}

// Points that set the two sides, the lowest k at a tie; a NaN point sets both.
struct Extremes {
  int64_t lo = 0, hi = 0;
};
Extremes extremes(const Axis& a, int64_t count) {
  Extremes e;
  for (int64_t k = 1; k < count; ++k) {
    if (a[k] < a[e.lo] || std::isnan(a[k])) e.lo = k;
    if (a[k] > a[e.hi] || std::isnan(a[k])) e.hi = k;
  }
  return e;
}

// exp(m) of an axis, for the transform that has it.
float growth_of(const PointSets& sets, int axis) {
  return sets.transform == BoxTransform::moment ? std::exp(sets.moment[axis]) : 0;
}

}  // namespace

PointSetDims check_points_to_boxes(const char* op, const PointSets& sets, const Shape& boxes) {
  const auto& [offsets, priors, moment, transform] = sets;
  require(offsets.rank() == 3 && offsets.dim(2) % 2 == 0, op,
          "offsets must be (N, P, 2K), are " + offsets.shape().to_string());
  const int64_t N = offsets.dim(0), P = offsets.dim(1), K = offsets.dim(2) / 2;
  require_shape(op, "priors", priors, {P, 3});
  require_shape(op, "boxes", boxes, {N, P, 4});
  if (transform == BoxTransform::moment) require_shape(op, "moment", moment, {2});
  const int64_t fewest = transform == BoxTransform::moment ? 2 : transform == BoxTransform::minmax ? 1 : 4;
  require(K >= fewest, op, "too few points: " + std::to_string(K));
  return {N * P, P, K, transform == BoxTransform::partial_minmax ? 4 : K};
}

PointSetDims check_points_to_boxes_backward(const PointSets& sets, const Shape& grad_boxes, const PointSetGradients& to,
                                            View<float> workspace) {
  const char* op = "points_to_boxes_backward";
  const PointSetDims d = check_points_to_boxes(op, sets, grad_boxes);
  require_shape(op, "grad_offsets", to.offsets.grad, sets.offsets.shape());
  if (to.moment.wanted()) require_shape(op, "grad_moment", to.moment.grad, {2});
  require(workspace.size() >= points_to_boxes_workspace(d.rows), op, "workspace is too small");
  return d;
}

void points_to_boxes(Cpu& cpu, const PointSets& sets, View<float> boxes) {
  const PointSetDims d = check_points_to_boxes("points_to_boxes", sets, boxes.shape());
  const bool by_moment = sets.transform == BoxTransform::moment;
  const float growth[2] = {growth_of(sets, 0), growth_of(sets, 1)};
  parallel_for(cpu, d.rows, kPointsToBoxesRows, [&](int64_t row) {
    const float* prior = sets.priors.data() + 3 * (row % d.P);
    const float stride = prior[2];
    float* box = boxes.data() + 4 * row;
    for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
      const Axis a = {sets.offsets.data() + row * 2 * d.K + (1 - axis), d.K};
      float lo, hi;
      if (by_moment) {
        const Moments m = moments(a);
        lo = m.mean - m.deviation * growth[axis];
        hi = m.mean + m.deviation * growth[axis];
      } else {
        const Extremes e = extremes(a, d.seen);
        lo = a[e.lo];
        hi = a[e.hi];
      }
      box[axis] = lo * stride + prior[axis];
      box[2 + axis] = hi * stride + prior[axis];
    }
  });
}

int64_t points_to_boxes_workspace(int64_t rows) { return 2 * chunk_count(rows, kPointsToBoxesRows); }

void points_to_boxes_backward(Cpu& cpu, const PointSets& sets, View<const float> grad_boxes,
                              const PointSetGradients& to, View<float> workspace) {
  const PointSetDims d = check_points_to_boxes_backward(sets, grad_boxes.shape(), to, workspace);
  const bool by_moment = sets.transform == BoxTransform::moment, add = to.offsets.adds();
  const float growth[2] = {growth_of(sets, 0), growth_of(sets, 1)};
  const auto K = static_cast<float>(d.K);

  parallel_chunks(cpu, d.rows, kPointsToBoxesRows, [&](int64_t chunk, int64_t begin, int64_t end) {
    double grad_m[2] = {0, 0};
    for (int64_t row = begin; row < end; ++row) {
      const float stride = sets.priors[3 * (row % d.P) + 2];
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t first = row * 2 * d.K + (1 - axis);
        const Axis a = {sets.offsets.data() + first, d.K};
        float* grad = to.offsets.grad.data() + first;
        const float grad_lo = grad_boxes[4 * row + axis] * stride, grad_hi = grad_boxes[4 * row + 2 + axis] * stride;
        if (by_moment) {
          const Moments m = moments(a);
          const float grad_deviation = (grad_hi - grad_lo) * growth[axis];
          const float by_mean = (grad_lo + grad_hi) / K;
          const float by_deviation = m.deviation > 0 ? grad_deviation / ((K - 1) * m.deviation) : 0;
          for (int64_t k = 0; k < d.K; ++k) {
            const float g = by_mean + by_deviation * (a[k] - m.mean);
            grad[2 * k] = add ? grad[2 * k] + g : g;
          }
          grad_m[axis] += static_cast<double>(grad_deviation * m.deviation);
        } else {
          const Extremes e = extremes(a, d.seen);
          for (int64_t k = 0; k < d.K; ++k) {
            const float g = (k == e.lo ? grad_lo : 0) + (k == e.hi ? grad_hi : 0);
            grad[2 * k] = add ? grad[2 * k] + g : g;
          }
        }
      }
    }
    for (int axis = 0; axis < 2; ++axis) workspace[2 * chunk + axis] = static_cast<float>(grad_m[axis]);
  });

  if (!to.moment.wanted()) return;
  for (int axis = 0; axis < 2; ++axis) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunk_count(d.rows, kPointsToBoxesRows); ++chunk)
      total += static_cast<double>(workspace[2 * chunk + axis]);
    const float g = to.moment_mul * static_cast<float>(total);
    to.moment.grad[axis] = to.moment.adds() ? to.moment.grad[axis] + g : g;
  }
}

}  // namespace gradlibra::kernels
