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

// The points that minmax transforms look at.
int64_t points_seen(BoxTransform transform, int64_t K) { return transform == BoxTransform::partial_minmax ? 4 : K; }

struct Dims {
  int64_t rows, P, K;
};
Dims check_shapes(const char* op, const View<const float>& offsets, const View<const float>& priors,
                  const View<const float>& moment, BoxTransform transform, const Shape& boxes) {
  require(offsets.rank() == 3 && offsets.dim(2) % 2 == 0, op,
          "offsets must be (N, P, 2K), are " + offsets.shape().to_string());
  const int64_t N = offsets.dim(0), P = offsets.dim(1), K = offsets.dim(2) / 2;
  require_shape(op, "priors", priors, {P, 3});
  require(boxes == Shape{N, P, 4}, op, "boxes have shape " + boxes.to_string() + ", expected (N, P, 4)");
  if (transform == BoxTransform::moment) require_shape(op, "moment", moment, {2});
  const int64_t fewest = transform == BoxTransform::moment ? 2 : transform == BoxTransform::minmax ? 1 : 4;
  require(K >= fewest, op, "too few points: " + std::to_string(K));
  return {N * P, P, K};
}

}  // namespace

void points_to_boxes(Cpu& cpu, View<const float> offsets, View<const float> priors, View<const float> moment,
                     BoxTransform transform, View<float> boxes) {
  const Dims d = check_shapes("points_to_boxes", offsets, priors, moment, transform, boxes.shape());
  const bool by_moment = transform == BoxTransform::moment;
  const float growth[2] = {by_moment ? std::exp(moment[0]) : 0, by_moment ? std::exp(moment[1]) : 0};  // x, y

  parallel_for(cpu, d.rows, kPointsToBoxesRows, [&](int64_t row) {
    const float* prior = priors.data() + 3 * (row % d.P);
    const float stride = prior[2];
    float* box = boxes.data() + 4 * row;
    for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
      const Axis a = {offsets.data() + row * 2 * d.K + (1 - axis), d.K};
      float lo, hi;
      if (by_moment) {
        const Moments m = moments(a);
        lo = m.mean - m.deviation * growth[axis];
        hi = m.mean + m.deviation * growth[axis];
      } else {
        const Extremes e = extremes(a, points_seen(transform, d.K));
        lo = a[e.lo];
        hi = a[e.hi];
      }
      box[axis] = lo * stride + prior[axis];
      box[2 + axis] = hi * stride + prior[axis];
    }
  });
}

int64_t points_to_boxes_workspace(int64_t rows) { return 2 * chunk_count(rows, kPointsToBoxesRows); }

void points_to_boxes_backward(Cpu& cpu, View<const float> offsets, View<const float> priors, View<const float> moment,
                              BoxTransform transform, float moment_mul, View<const float> grad_boxes,
                              View<float> grad_offsets, Accumulate mode, View<float> grad_moment,
                              Accumulate mode_moment, View<float> workspace) {
  const char* op = "points_to_boxes_backward";
  const Dims d = check_shapes(op, offsets, priors, moment, transform, grad_boxes.shape());
  require_shape(op, "grad_offsets", grad_offsets, offsets.shape());
  if (grad_moment.data() != nullptr) require_shape(op, "grad_moment", grad_moment, {2});
  require(workspace.size() >= points_to_boxes_workspace(d.rows), op, "workspace is too small");
  const bool by_moment = transform == BoxTransform::moment;
  const float growth[2] = {by_moment ? std::exp(moment[0]) : 0, by_moment ? std::exp(moment[1]) : 0};
  const auto K = static_cast<float>(d.K);

  parallel_chunks(cpu, d.rows, kPointsToBoxesRows, [&](int64_t chunk, int64_t begin, int64_t end) {
    double grad_m[2] = {0, 0};
    for (int64_t row = begin; row < end; ++row) {
      const float stride = priors[3 * (row % d.P) + 2];
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t first = row * 2 * d.K + (1 - axis);
        const Axis a = {offsets.data() + first, d.K};
        float* grad = grad_offsets.data() + first;
        const float grad_lo = grad_boxes[4 * row + axis] * stride, grad_hi = grad_boxes[4 * row + 2 + axis] * stride;
        if (by_moment) {
          const Moments m = moments(a);
          const float grad_deviation = (grad_hi - grad_lo) * growth[axis];
          const float by_mean = (grad_lo + grad_hi) / K;
          const float by_deviation = m.deviation > 0 ? grad_deviation / ((K - 1) * m.deviation) : 0;
          for (int64_t k = 0; k < d.K; ++k) {
            const float g = by_mean + by_deviation * (a[k] - m.mean);
            grad[2 * k] = mode == Accumulate::add ? grad[2 * k] + g : g;
          }
          grad_m[axis] += static_cast<double>(grad_deviation * m.deviation);
        } else {
          const Extremes e = extremes(a, points_seen(transform, d.K));
          for (int64_t k = 0; k < d.K; ++k) {
            const float g = (k == e.lo ? grad_lo : 0) + (k == e.hi ? grad_hi : 0);
            grad[2 * k] = mode == Accumulate::add ? grad[2 * k] + g : g;
          }
        }
      }
    }
    for (int axis = 0; axis < 2; ++axis) workspace[2 * chunk + axis] = static_cast<float>(grad_m[axis]);
  });

  if (grad_moment.data() == nullptr) return;
  for (int axis = 0; axis < 2; ++axis) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunk_count(d.rows, kPointsToBoxesRows); ++chunk)
      total += static_cast<double>(workspace[2 * chunk + axis]);
    const float g = moment_mul * static_cast<float>(total);
    grad_moment[axis] = mode_moment == Accumulate::add ? grad_moment[axis] + g : g;
  }
}

}  // namespace gradlibra::kernels
