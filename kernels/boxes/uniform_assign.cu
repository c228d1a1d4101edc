// SPDX-License-Identifier: MIT
// Uniform matching on the device, without a P x M matrix. One block per object searches all priors for its pairs; one
// thread per prior then walks the image's list from its end, which all threads of a block read together. Every decision
// is a comparison of values that the host computes with the same roundings, so results are the host's exactly.
#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.cuh"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/boxes/uniform_assign.h"

namespace gradlibra::kernels {

namespace {

struct Args {
  const float* anchors;
  const float* boxes;
  const uint8_t* valid;  // null: all
  int64_t P;
  PaddedBoxes gt;
  UniformAssign options;
};

// One block per object, padding included.
__global__ void match_objects_kernel(const Args a, int32_t* __restrict__ pairs) {
  const int64_t id = blockIdx.x, n = id / a.gt.M, g = id % a.gt.M;
  const int k = a.options.match_times;
  int32_t* const list = pairs + n * 2 * k * a.gt.M + g;
  if (g >= a.gt.count(n)) {
    for (int s = static_cast<int>(threadIdx.x); s < 2 * k; s += kBlock) list[s * a.gt.M] = kNoPair;
    return;
  }
  const float* const object = a.gt.boxes + 4 * id;
  const CentredBox there = centred_box(object);
  for (int by_anchor = 0; by_anchor < 2; ++by_anchor) {
    const float* const candidates = by_anchor != 0 ? a.anchors : a.boxes + 4 * n * a.P;
    Near found = {-1, -1};
    for (int r = 0; r < k; ++r) {
      found = next_nearest(0, a.P, found, [&](int64_t p) {
        return takes_part(a.valid, n * a.P + p) ? box_l1_distance(centred_box(candidates + 4 * p), there)
                                                : static_cast<double>(INFINITY);
      });
      if (threadIdx.x != 0) continue;
      int32_t pair = kNoPair;
      if (found.distance < INFINITY) {
        const float iou = box_iou(a.anchors + 4 * int64_t{found.prior}, object);
        pair = iou < a.options.pos_ignore_iou ? ~found.prior : found.prior;
      }
      list[(2 * r + by_anchor) * a.gt.M] = pair;
    }
  }
}

// One thread per prior.
__global__ void assign_priors_kernel(const Args a, const int32_t* __restrict__ pairs, int32_t* __restrict__ assigned) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= a.gt.N * a.P) return;
  const int64_t n = row / a.P, count = a.gt.count(n);
  const int32_t p = static_cast<int32_t>(row % a.P);
  int32_t result = -1;
  if (takes_part(a.valid, row)) {
    bool decided = false;
    for (int s = 2 * a.options.match_times - 1; s >= 0 && !decided; --s)
      for (int64_t g = count - 1; g >= 0 && !decided; --g) {
        const int32_t pair = pairs[(n * 2 * a.options.match_times + s) * a.gt.M + g];
        if (pair != p && pair != ~p) continue;
        decided = true;
        if (pair == p) result = static_cast<int32_t>(g + 1);
      }
    if (!decided) {
      result = 0;
      const float box[4] = {a.boxes[4 * row], a.boxes[4 * row + 1], a.boxes[4 * row + 2], a.boxes[4 * row + 3]};
      for (int64_t g = 0; g < count; ++g)
        if (box_iou(box, a.gt.boxes + 4 * (n * a.gt.M + g)) > a.options.neg_ignore_iou) result = -1;
    }
  }
  assigned[row] = result;
}

struct PairArgs {
  const int32_t* pairs;
  const float* boxes;
  const float* gt_boxes;
  float* pair_boxes;
  float* pair_targets;
  float* weights;
  int64_t places, per_image, M, P;
};

// One thread per place of the list.
__global__ void gather_pairs_kernel(const PairArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= a.places) return;
  const int64_t n = i / a.per_image;
  const int32_t p = a.pairs[i];
  a.weights[i] = p >= 0 ? 1 : 0;
  for (int c = 0; c < 4; ++c) {
    a.pair_boxes[4 * i + c] = p >= 0 ? a.boxes[4 * (n * a.P + p) + c] : 0;
    a.pair_targets[4 * i + c] = p >= 0 ? a.gt_boxes[4 * (n * a.M + i % a.M) + c] : 0;
  }
}

// One thread per prior walks the image's list: a sum in its order, without atomics.
__global__ void gather_pairs_backward_kernel(const int32_t* __restrict__ pairs, const float* __restrict__ grad_pairs,
                                             int64_t per_image, int64_t rows, int64_t P, bool add,
                                             float* __restrict__ grad_boxes) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= rows) return;
  const int64_t first = row / P * per_image;
  const int32_t p = static_cast<int32_t>(row % P);
  float grad[4] = {0, 0, 0, 0};
  if (add)
    for (int c = 0; c < 4; ++c) grad[c] = grad_boxes[4 * row + c];
  for (int64_t i = first; i < first + per_image; ++i)
    if (pairs[i] == p)
      for (int c = 0; c < 4; ++c) grad[c] += grad_pairs[4 * i + c];
  for (int c = 0; c < 4; ++c) grad_boxes[4 * row + c] = grad[c];
}

}  // namespace

void uniform_assign(Cuda& cuda, View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                    View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                    View<int32_t> assigned, View<int32_t> pairs) {
  check_uniform_assign(anchors, boxes, gt_boxes, gt_counts, valid, options, assigned, pairs);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  const Args args = {anchors.data(), boxes.data(), valid.data(), P, {gt_boxes.data(), gt_counts.data(), N, M}, options};
  if (N * M > 0)
    launch(match_objects_kernel, static_cast<unsigned>(N * M), kBlock, 0, cuda.stream(), args, pairs.data());
  if (N * P > 0)
    launch(assign_priors_kernel, blocks_for(N * P, kBlock), kBlock, 0, cuda.stream(), args, pairs.data(),
           assigned.data());
}

void gather_pairs(Cuda& cuda, View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                  View<float> pair_boxes, View<float> pair_targets, View<float> weights) {
  check_gather_pairs(pairs, boxes, gt_boxes, pair_boxes, pair_targets, weights);
  if (pairs.size() == 0) return;
  const PairArgs args = {.pairs = pairs.data(),
                         .boxes = boxes.data(),
                         .gt_boxes = gt_boxes.data(),
                         .pair_boxes = pair_boxes.data(),
                         .pair_targets = pair_targets.data(),
                         .weights = weights.data(),
                         .places = pairs.size(),
                         .per_image = pairs.dim(1) * pairs.dim(2),
                         .M = pairs.dim(2),
                         .P = boxes.dim(1)};
  launch(gather_pairs_kernel, blocks_for(pairs.size(), kBlock), kBlock, 0, cuda.stream(), args);
}

void gather_pairs_backward(Cuda& cuda, View<const int32_t> pairs, View<const float> grad_pair_boxes,
                           View<float> grad_boxes, Accumulate mode) {
  check_gather_pairs_backward(pairs, grad_pair_boxes, grad_boxes);
  const int64_t P = grad_boxes.dim(1), rows = grad_boxes.dim(0) * P;
  if (rows == 0) return;
  launch(gather_pairs_backward_kernel, blocks_for(rows, kBlock), kBlock, 0, cuda.stream(), pairs.data(),
         grad_pair_boxes.data(), pairs.dim(1) * pairs.dim(2), rows, P, mode == Accumulate::add, grad_boxes.data());
}

}  // namespace gradlibra::kernels
