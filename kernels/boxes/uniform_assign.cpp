// SPDX-License-Identifier: MIT
// Uniform matching on the host: objects find their pairs in parallel, then priors what the pairs say of them.
#include "kernels/boxes/uniform_assign.h"

#include <algorithm>

#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.h"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_uniform_assign(View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                          View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                          View<int32_t> assigned, View<int32_t> pairs) {
  const char* op = "uniform_assign";
  require(assigned.rank() == 2, op, "assigned must be (N, P), is " + assigned.shape().to_string());
  require(gt_boxes.rank() == 3, op, "gt_boxes must be (N, M, 4), are " + gt_boxes.shape().to_string());
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1), k = options.match_times;
  require(k >= 1 && k <= kMaxNearest, op, "match_times must be 1 to 16, is " + std::to_string(k));
  require_shape(op, "anchors", anchors, {P, 4});
  require_shape(op, "boxes", boxes, {N, P, 4});
  require_shape(op, "gt_boxes", gt_boxes, {N, M, 4});
  require_shape(op, "gt_counts", gt_counts, {N});
  if (valid.data() != nullptr) require_shape(op, "valid", valid, {N, P});
  require_shape(op, "pairs", pairs, {N, 2 * k, M});
}

void uniform_assign(Cpu& cpu, View<const float> anchors, View<const float> boxes, View<const float> gt_boxes,
                    View<const int32_t> gt_counts, View<const uint8_t> valid, const UniformAssign& options,
                    View<int32_t> assigned, View<int32_t> pairs) {
  check_uniform_assign(anchors, boxes, gt_boxes, gt_counts, valid, options, assigned, pairs);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1), k = options.match_times;
  const PaddedBoxes gt{gt_boxes.data(), gt_counts.data(), N, M};

  parallel_for(cpu, N * M, 1, [&](int64_t id) {
    const int64_t n = id / M, g = id % M;
    int32_t* list = pairs.data() + n * 2 * k * M + g;
    if (g >= gt.count(n)) {
      for (int64_t s = 0; s < 2 * k; ++s) list[s * M] = kNoPair;
      return;
    }
    const float* object = gt_boxes.data() + 4 * id;
    const CentredBox there = centred_box(object);
    for (const bool by_anchor : {false, true}) {
      const float* candidates = by_anchor ? anchors.data() : boxes.data() + 4 * n * P;
      nearest_priors(0, P, options.match_times, kNoPair, list + (by_anchor ? M : 0), 2 * M, [&](int64_t p) {
        return takes_part(valid.data(), n * P + p) ? box_l1_distance(centred_box(candidates + 4 * p), there)
                                                   : std::numeric_limits<double>::infinity();
      });
    }
    for (int64_t s = 0; s < 2 * k; ++s) {
      int32_t& pair = list[s * M];
      if (pair != kNoPair && box_iou(anchors.data() + 4 * int64_t{pair}, object) < options.pos_ignore_iou) pair = ~pair;
    }
  });

  parallel_for(cpu, N * P, 64, [&](int64_t row) {
    const int64_t n = row / P, p = row % P, count = gt.count(n);
    assigned[row] = -1;
    if (!takes_part(valid.data(), n * P + p)) return;
    for (int64_t s = 2 * k - 1; s >= 0; --s)
      for (int64_t g = count - 1; g >= 0; --g) {
        const int32_t pair = pairs[(n * 2 * k + s) * M + g];
        if (pair == ~static_cast<int32_t>(p)) return;
        if (pair == p) {
          assigned[row] = static_cast<int32_t>(g + 1);
          return;
        }
      }
    for (int64_t g = 0; g < count; ++g)
      if (box_iou(boxes.data() + 4 * row, gt_boxes.data() + 4 * (n * M + g)) > options.neg_ignore_iou) return;
    assigned[row] = 0;
  });
}

void check_gather_pairs(View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                        View<float> pair_boxes, View<float> pair_targets, View<float> weights) {
  const char* op = "gather_pairs";
  require(pairs.rank() == 3, op, "pairs must be (N, 2k, M), are " + pairs.shape().to_string());
  require(boxes.rank() == 3, op, "boxes must be (N, P, 4), are " + boxes.shape().to_string());
  const int64_t N = pairs.dim(0), S = pairs.dim(1), M = pairs.dim(2);
  require_shape(op, "boxes", boxes, {N, boxes.dim(1), 4});
  require_shape(op, "gt_boxes", gt_boxes, {N, M, 4});
  require_shape(op, "pair_boxes", pair_boxes, {N, S, M, 4});
  require_shape(op, "pair_targets", pair_targets, {N, S, M, 4});
  require_shape(op, "weights", weights, {N, S, M});
}

void gather_pairs(Cpu& cpu, View<const int32_t> pairs, View<const float> boxes, View<const float> gt_boxes,
                  View<float> pair_boxes, View<float> pair_targets, View<float> weights) {
  check_gather_pairs(pairs, boxes, gt_boxes, pair_boxes, pair_targets, weights);
  const int64_t S = pairs.dim(1), M = pairs.dim(2), P = boxes.dim(1);
  parallel_for(cpu, pairs.size(), 1024, [&](int64_t i) {
    const int64_t n = i / (S * M), p = pairs[i];
    weights[i] = p >= 0 ? 1 : 0;
    for (int64_t c = 0; c < 4; ++c) {
      pair_boxes[4 * i + c] = p >= 0 ? boxes[4 * (n * P + p) + c] : 0;
      pair_targets[4 * i + c] = p >= 0 ? gt_boxes[4 * (n * M + i % M) + c] : 0;
    }
  });
}

void check_gather_pairs_backward(View<const int32_t> pairs, View<const float> grad_pair_boxes, View<float> grad_boxes) {
  const char* op = "gather_pairs_backward";
  require(pairs.rank() == 3, op, "pairs must be (N, 2k, M), are " + pairs.shape().to_string());
  require(grad_boxes.rank() == 3, op, "grad_boxes must be (N, P, 4), are " + grad_boxes.shape().to_string());
  require_shape(op, "grad_pair_boxes", grad_pair_boxes, {pairs.dim(0), pairs.dim(1), pairs.dim(2), 4});
  require_shape(op, "grad_boxes", grad_boxes, {pairs.dim(0), grad_boxes.dim(1), 4});
}

void gather_pairs_backward(Cpu& cpu, View<const int32_t> pairs, View<const float> grad_pair_boxes,
                           View<float> grad_boxes, Accumulate mode) {
  check_gather_pairs_backward(pairs, grad_pair_boxes, grad_boxes);
  const int64_t per_image = pairs.dim(1) * pairs.dim(2), P = grad_boxes.dim(1);
  parallel_for(cpu, pairs.dim(0), 1, [&](int64_t n) {
    float* grad = grad_boxes.data() + 4 * n * P;
    if (mode == Accumulate::overwrite) std::fill_n(grad, 4 * P, 0.0f);
    for (int64_t i = n * per_image; i < (n + 1) * per_image; ++i)
      if (pairs[i] >= 0)
        for (int64_t c = 0; c < 4; ++c) grad[4 * int64_t{pairs[i]} + c] += grad_pair_boxes[4 * i + c];
  });
}

}  // namespace gradlibra::kernels
