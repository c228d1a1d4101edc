// SPDX-License-Identifier: MIT
// Target assignment on the host: boxes find their candidates in parallel, then priors their owners.
#include "kernels/boxes/assign.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.h"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/boxes/prior_distance.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

float stride_of_box(const View<const float>& priors, const BoxFrame& box, float scale) {
  float filled = 0, smallest = std::numeric_limits<float>::infinity();
  for (int64_t p = 0; p < priors.dim(0); ++p) {
    const float stride = priors[3 * p + 2];
    if (box_fills_stride(box, scale, stride)) filled = std::max(filled, stride);
    smallest = std::min(smallest, stride);
  }
  return filled > 0 ? filled : smallest;
}

// Shapes that both assigners share.
void check_ground_truth(const char* op, const View<const float>& gt_boxes, const View<const int32_t>& gt_counts,
                        const View<const uint8_t>& valid, const View<int32_t>& assigned) {
  require(assigned.rank() == 2, op, "assigned must be (N, P), is " + assigned.shape().to_string());
  require(gt_boxes.rank() == 3, op, "gt_boxes must be (N, M, 4), are " + gt_boxes.shape().to_string());
  const int64_t N = assigned.dim(0), P = assigned.dim(1);
  require_shape(op, "gt_boxes", gt_boxes, {N, gt_boxes.dim(1), 4});
  require_shape(op, "gt_counts", gt_counts, {N});
  if (valid.data() != nullptr) require_shape(op, "valid", valid, {N, P});
}

}  // namespace

int64_t point_assign_workspace(int64_t N, int64_t M, const PointAssign& options) { return N * M * options.pos_num; }

void check_point_assign(View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                        View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                        View<int32_t> workspace) {
  const char* op = "point_assign";
  check_ground_truth(op, gt_boxes, gt_counts, valid, assigned);
  require_shape(op, "priors", priors, {assigned.dim(1), 3});
  require(options.pos_num >= 1 && options.pos_num <= kMaxNearest, op,
          "pos_num must be 1 to 16, is " + std::to_string(options.pos_num));
  require(workspace.size() >= point_assign_workspace(assigned.dim(0), gt_boxes.dim(1), options), op,
          "workspace is too small");
}

void point_assign(Cpu& cpu, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                  View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                  View<int32_t> workspace) {
  check_point_assign(priors, gt_boxes, gt_counts, valid, options, assigned, workspace);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1), k = options.pos_num;
  const PaddedBoxes gt{gt_boxes.data(), gt_counts.data(), N, M};
  int32_t* candidates = workspace.data();

  // The k nearest priors of the box's level, nearest first; -1 where the level has fewer.
  parallel_for(cpu, N * M, 1, [&](int64_t id) {
    const int64_t n = id / M;
    if (id % M >= gt.count(n)) return;
    const BoxFrame box = box_frame(gt.boxes + 4 * id);
    const float level_stride = stride_of_box(priors, box, options.scale);
    nearest_priors(0, P, options.pos_num, -1, candidates + id * k, 1, [&](int64_t p) {
      return priors[3 * p + 2] == level_stride && takes_part(valid.data(), n * P + p)
                 ? squared_distance(box, priors[3 * p], priors[3 * p + 1])
                 : std::numeric_limits<double>::infinity();
    });
  });
  parallel_for(cpu, N, 1, [&](int64_t n) {
    int32_t* owner = assigned.data() + n * P;
    const float* boxes = gt_boxes.data() + n * M * 4;
    const auto distance = [&](int64_t box, int64_t prior) {
      return squared_distance(box_frame(boxes + 4 * box), priors[3 * prior], priors[3 * prior + 1]);
    };
    for (int64_t p = 0; p < P; ++p) owner[p] = takes_part(valid.data(), n * P + p) ? 0 : -1;
    for (int64_t box = 0; box < gt.count(n); ++box)
      for (int64_t j = 0; j < k; ++j) {
        const int64_t prior = candidates[(n * M + box) * k + j];
        if (prior < 0) continue;
        if (owner[prior] == 0 || distance(box, prior) < distance(owner[prior] - 1, prior))
          owner[prior] = static_cast<int32_t>(box + 1);
      }
  });
}

int64_t max_iou_assign_workspace(int64_t N, int64_t M) { return N * M; }

void check_max_iou_assign(View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                          View<const uint8_t> valid, View<int32_t> assigned, View<float> workspace) {
  const char* op = "max_iou_assign";
  check_ground_truth(op, gt_boxes, gt_counts, valid, assigned);
  require_shape(op, "boxes", boxes, {assigned.dim(0), assigned.dim(1), 4});
  require(workspace.size() >= max_iou_assign_workspace(assigned.dim(0), gt_boxes.dim(1)), op, "workspace is too small");
}

void max_iou_assign(Cpu& cpu, View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                    View<const uint8_t> valid, const MaxIouAssign& options, View<int32_t> assigned,
                    View<float> workspace) {
  check_max_iou_assign(boxes, gt_boxes, gt_counts, valid, assigned, workspace);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  const PaddedBoxes truth{gt_boxes.data(), gt_counts.data(), N, M};
  float* gt_max = workspace.data();  // M_g

  parallel_for(cpu, N * M, 1, [&](int64_t gt) {
    const int64_t n = gt / M;
    if (gt % M >= truth.count(n)) return;
    float largest = 0;
    for (int64_t p = 0; p < P; ++p)
      if (takes_part(valid.data(), n * P + p))
        largest = std::max(largest, box_iou(boxes.data() + 4 * (n * P + p), gt_boxes.data() + 4 * gt));
    gt_max[gt] = largest;
  });
  parallel_for(cpu, N * P, 256, [&](int64_t row) {
    if (!takes_part(valid.data(), row)) {
      assigned[row] = -1;
      return;
    }
    const int64_t n = row / P, count = truth.count(n);
    float largest = -1;
    int32_t best = 0, low_quality = 0;
    for (int64_t g = 0; g < count; ++g) {
      const float iou = box_iou(boxes.data() + 4 * row, gt_boxes.data() + 4 * (n * M + g));
      const auto id = static_cast<int32_t>(g + 1);
      if (iou > largest) {
        largest = iou;
        best = id;
      }
      if (iou == gt_max[n * M + g] && iou >= options.min_pos_iou) low_quality = id;
    }
    if (low_quality > 0)
      assigned[row] = low_quality;
    else if (largest < options.neg_iou)  // also without ground truth
      assigned[row] = 0;
    else
      assigned[row] = largest >= options.pos_iou ? best : -1;
  });
}

void check_gather_targets(View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                          View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                          View<float> box_weights) {
  const char* op = "gather_targets";
  require(assigned.rank() == 2, op, "assigned must be (N, P), is " + assigned.shape().to_string());
  require(gt_boxes.rank() == 3, op, "gt_boxes must be (N, M, 4), are " + gt_boxes.shape().to_string());
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  require_shape(op, "gt_boxes", gt_boxes, {N, M, 4});
  require_shape(op, "box_targets", box_targets, {N, P, 4});
  require_shape(op, "box_weights", box_weights, {N, P});
  if (labels.data() == nullptr) return;
  require_shape(op, "gt_labels", gt_labels, {N, M});
  require_shape(op, "labels", labels, {N, P});
  require_shape(op, "class_weights", class_weights, {N, P});
}

void gather_targets(Cpu& cpu, View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                    int background, View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                    View<float> box_weights) {
  check_gather_targets(assigned, gt_boxes, gt_labels, labels, class_weights, box_targets, box_weights);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  const bool with_classes = labels.data() != nullptr;
  parallel_for(cpu, N * P, 4096, [&](int64_t row) {
    const int32_t a = assigned[row];
    const int64_t gt = row / P * M + a - 1;
    if (with_classes) {
      labels[row] = a > 0 ? gt_labels[gt] : background;
      class_weights[row] = a < 0 ? 0 : 1;
    }
    for (int64_t c = 0; c < 4; ++c) box_targets[4 * row + c] = a > 0 ? gt_boxes[4 * gt + c] : 0;
    box_weights[row] = a > 0 ? 1 : 0;
  });
}

void check_count_assigned(View<const int32_t> assigned, View<double> counts) {
  require(assigned.rank() == 2, "count_assigned", "assigned must be (N, P), is " + assigned.shape().to_string());
  require_shape("count_assigned", "counts", counts, {4});
}

void count_assigned(Cpu&, View<const int32_t> assigned, View<double> counts, View<int32_t>) {
  check_count_assigned(assigned, counts);
  int64_t positives = 0, valid = 0, image_min1 = 0, both_min1 = 0;
  for (int64_t n = 0; n < assigned.dim(0); ++n) {
    const int32_t* row = assigned.data() + n * assigned.dim(1);
    const int64_t pos = std::count_if(row, row + assigned.dim(1), [](int32_t a) { return a > 0; });
    const int64_t neg = std::count(row, row + assigned.dim(1), 0);
    positives += pos;
    valid += pos + neg;
    image_min1 += std::max<int64_t>(pos, 1);
    both_min1 += std::max<int64_t>(pos, 1) + std::max<int64_t>(neg, 1);
  }
  const int64_t all[4] = {positives, valid, image_min1, both_min1};
  for (int64_t i = 0; i < 4; ++i) counts[i] = static_cast<double>(all[i]);
}

}  // namespace gradlibra::kernels
