// SPDX-License-Identifier: MIT
// Point sets to boxes on the device. One thread per row (all K points): K is 9, a warp reduction would cost more than
// it saves. A row's 72 bytes are read two or three times; the first pass brings them into L1. The backward pass, which
// also writes them, takes a block's rows through shared memory instead, so that device memory sees whole lines. The
// gradient by m is summed per block in double, then over blocks by one block, always in one order.
#include "kernels/block_sum.cuh"
#include "kernels/boxes/points_to_boxes.h"

namespace gradlibra::kernels {

namespace {

constexpr size_t kMostShared = 40 << 10;  // of the 48 KiB that a block has without asking; up to 20 points

static_assert(kBlock == kPointsToBoxesRows);  // a thread per row, a partial sum per block

// The coordinates of one axis: v[0], v[2], v[4], ... (offsets interleave y and x).
struct Axis {
  const float* v;
  int K;
  __device__ float operator[](int k) const { return v[2 * k]; }
};

struct Moments {
  float mean, deviation;
};
__device__ Moments moments(const Axis a) {
  const float first = a[0];
  float shift = 0;
  for (int k = 1; k < a.K; ++k) shift += a[k] - first;
  shift /= static_cast<float>(a.K);
  float squares = 0;
  for (int k = 0; k < a.K; ++k) {
    const float centred = a[k] - first - shift;
    squares += centred * centred;
  }
  return {first + shift, sqrtf(squares / static_cast<float>(a.K - 1))};
}

// Points that set the two sides, the lowest k at a tie; a NaN point sets both.
struct Extremes {
  int lo, hi;
};
__device__ Extremes extremes(const Axis a, int count) {
  Extremes e = {0, 0};
  float lo = a[0], hi = lo;
  for (int k = 1; k < count; ++k) {
    const float v = a[k];
    const bool is_nan = !(v == v);
    if (v < lo || is_nan) lo = v, e.lo = k;
    if (v > hi || is_nan) hi = v, e.hi = k;
  }
  return e;
}

struct Args {
  const float* offsets;
  const float* priors;
  const float* moment;  // null unless by_moment
  int64_t rows, P;
  int K;
  bool by_moment;
  int seen;  // the points that minmax transforms look at
};

__global__ void points_to_boxes_kernel(const Args a, float* __restrict__ boxes) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.rows) return;
  const float* prior = a.priors + 3 * (row % a.P);
  const float stride = prior[2];
  for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
    const Axis v = {a.offsets + row * 2 * a.K + (1 - axis), a.K};
    float lo, hi;
    if (a.by_moment) {
      const Moments m = moments(v);
      const float half = m.deviation * expf(a.moment[axis]);
      lo = m.mean - half;
      hi = m.mean + half;
    } else {
      const Extremes e = extremes(v, a.seen);
      lo = v[e.lo];
      hi = v[e.hi];
    }
    boxes[4 * row + axis] = lo * stride + prior[axis];
    boxes[4 * row + 2 + axis] = hi * stride + prior[axis];
  }
}

// Writes the gradient of one axis of a row and returns its share of the gradient by m. `grad` may be where the row's
// offsets are: a value is written behind its last use.
__device__ float backward_axis(const Args& a, const Axis v, int axis, const float* grad_box, float stride, bool add,
                               float* grad) {
  const float grad_lo = grad_box[axis] * stride, grad_hi = grad_box[2 + axis] * stride;
  if (a.by_moment) {
    const Moments m = moments(v);
    const float K = static_cast<float>(a.K);
    const float grad_deviation = (grad_hi - grad_lo) * expf(a.moment[axis]);
    const float by_mean = (grad_lo + grad_hi) / K;
    const float by_deviation = m.deviation > 0 ? grad_deviation / ((K - 1) * m.deviation) : 0;
    for (int k = 0; k < a.K; ++k) {
      const float g = by_mean + by_deviation * (v[k] - m.mean);
      grad[2 * k] = add ? grad[2 * k] + g : g;
    }
    return grad_deviation * m.deviation;
  }
  const Extremes e = extremes(v, a.seen);
  for (int k = 0; k < a.K; ++k) {
    const float g = (k == e.lo ? grad_lo : 0) + (k == e.hi ? grad_hi : 0);
    grad[2 * k] = add ? grad[2 * k] + g : g;
  }
  return 0;
}

// kShared: the block's offsets lie in shared memory, and give way to their gradients there.
template <bool kShared>
__global__ void points_to_boxes_backward_kernel(const Args a, const float* __restrict__ grad_boxes, Accumulate mode,
                                                float* __restrict__ grad_offsets, float* __restrict__ partials) {
  const bool add = mode == Accumulate::add;
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  const int64_t first = int64_t{blockIdx.x} * kBlock * 2 * a.K, left = a.rows * 2 * a.K - first;
  const int values = static_cast<int>(left < kBlock * 2 * a.K ? left : kBlock * 2 * a.K);
  float* const own = dynamic_shared<float>();
  if constexpr (kShared) {
    for (int i = static_cast<int>(threadIdx.x); i < values; i += kBlock) own[i] = a.offsets[first + i];
    __syncthreads();
  }
  double grad_m[2] = {0, 0};
  if (row < a.rows) {
    const float stride = a.priors[3 * (row % a.P) + 2];
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t at = row * 2 * a.K + (1 - axis);
      float* const here = kShared ? own + (at - first) : grad_offsets + at;
      const Axis v = {kShared ? here : a.offsets + at, a.K};
      grad_m[axis] = double{backward_axis(a, v, axis, grad_boxes + 4 * row, stride, add && !kShared, here)};
    }
  }
  if constexpr (kShared) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < values; i += kBlock)
      grad_offsets[first + i] = add ? grad_offsets[first + i] + own[i] : own[i];
  }
  if (!a.by_moment) return;
  for (int axis = 0; axis < 2; ++axis) {
    const double sum = block_sum(grad_m[axis]);
    if (threadIdx.x == 0) partials[2 * int64_t{blockIdx.x} + axis] = static_cast<float>(sum);
  }
}

// One block. blocks may be 0: the sum is 0.
__global__ void grad_moment_kernel(const float* __restrict__ partials, int64_t blocks, float moment_mul,
                                   Accumulate mode, float* __restrict__ grad_moment) {
  for (int axis = 0; axis < 2; ++axis) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += kBlock) sum += double{partials[2 * i + axis]};
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
      const float g = moment_mul * static_cast<float>(sum);
      grad_moment[axis] = mode == Accumulate::add ? grad_moment[axis] + g : g;
    }
  }
}

Args args_of(const PointSets& sets, const PointSetDims& d) {
  return {sets.offsets.data(),
          sets.priors.data(),
          sets.moment.data(),
          d.rows,
          d.P,
          static_cast<int>(d.K),
          sets.transform == BoxTransform::moment,
          static_cast<int>(d.seen)};
}

}  // namespace

void points_to_boxes(Cuda& cuda, const PointSets& sets, View<float> boxes) {
  const Args args = args_of(sets, check_points_to_boxes("points_to_boxes", sets, boxes.shape()));
  if (args.rows == 0) return;
  launch(points_to_boxes_kernel, blocks_for(args.rows, kBlock), kBlock, 0, cuda.stream(), args, boxes.data());
}

void points_to_boxes_backward(Cuda& cuda, const PointSets& sets, View<const float> grad_boxes,
                              const PointSetGradients& to, View<float> workspace) {
  const Args args = args_of(sets, check_points_to_boxes_backward(sets, grad_boxes.shape(), to, workspace));
  const unsigned blocks = blocks_for(args.rows, kBlock);
  const size_t shared_bytes = sizeof(float) * kBlock * 2 * static_cast<size_t>(args.K);
  const bool shared = shared_bytes <= kMostShared;
  if (blocks > 0)
    launch(shared ? points_to_boxes_backward_kernel<true> : points_to_boxes_backward_kernel<false>, blocks, kBlock,
           shared ? shared_bytes : 0, cuda.stream(), args, grad_boxes.data(), to.offsets.mode, to.offsets.grad.data(),
           workspace.data());
  if (!to.moment.wanted()) return;
  launch(grad_moment_kernel, 1, kBlock, 0, cuda.stream(), workspace.data(), args.by_moment ? int64_t{blocks} : 0,
         to.moment_mul, to.moment.mode, to.moment.grad.data());
}

}  // namespace gradlibra::kernels
