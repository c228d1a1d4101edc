// SPDX-License-Identifier: MIT
// Target assignment on the device, without a P x M matrix. One block per ground truth reduces over the priors (its
// nearest points; its largest overlap); one thread per prior then walks the image's ground truth, which all threads of
// a block read together. Every decision is a comparison of values that the host computes with the same roundings, so
// results are the host's exactly.
#include "kernels/block_reduce.cuh"
#include "kernels/block_sum.cuh"
#include "kernels/boxes/assign.h"
#include "kernels/boxes/box_iou.h"
#include "kernels/boxes/nearest_priors.cuh"
#include "kernels/boxes/padded_boxes.h"
#include "kernels/boxes/prior_distance.h"

namespace gradlibra::kernels {

namespace {

// The stride of the box's level, worked out by the whole block: the largest that the box fills, else the smallest.
struct Strides {
  float filled, smallest;
};
__device__ float stride_of_box(const float* __restrict__ priors, int64_t P, const BoxFrame& box, float scale) {
  Strides s = {0, INFINITY};
  for (int64_t p = threadIdx.x; p < P; p += kBlock) {
    const float stride = priors[3 * p + 2];
    if (box_fills_stride(box, scale, stride)) s.filled = fmaxf(s.filled, stride);
    s.smallest = fminf(s.smallest, stride);
  }
  s = block_reduce(s, [](const Strides& a, const Strides& b) {
    return Strides{fmaxf(a.filled, b.filled), fminf(a.smallest, b.smallest)};
  });
  return s.filled > 0 ? s.filled : s.smallest;
}

// One block per ground truth box: its k nearest points.
__global__ void nearest_priors_kernel(const float* __restrict__ priors, int64_t P, const PaddedBoxes gt,
                                      const uint8_t* __restrict__ valid, const PointAssign options,
                                      int32_t* __restrict__ candidates) {
  const int64_t id = blockIdx.x;
  if (id % gt.M >= gt.count(id / gt.M)) return;
  const BoxFrame box = box_frame(gt.boxes + 4 * id);
  const float level_stride = stride_of_box(priors, P, box, options.scale);
  Near found = {-1, -1};
  for (int j = 0; j < options.pos_num; ++j) {
    found = next_nearest(0, P, found, [&](int64_t p) {
      return priors[3 * p + 2] == level_stride && takes_part(valid, id / gt.M * P + p)
                 ? squared_distance(box, priors[3 * p], priors[3 * p + 1])
                 : static_cast<double>(INFINITY);
    });
    if (threadIdx.x == 0) candidates[id * options.pos_num + j] = found.distance < INFINITY ? found.prior : -1;
  }
}

// One thread per prior: the nearest of the boxes that have it as a candidate, the lower box at ties.
__global__ void claim_priors_kernel(const float* __restrict__ priors, int64_t P, const PaddedBoxes gt,
                                    const uint8_t* __restrict__ valid, int pos_num,
                                    const int32_t* __restrict__ candidates, int32_t* __restrict__ assigned) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= gt.N * P) return;
  const int64_t n = row / P, p = row % P, count = gt.count(n);
  if (!takes_part(valid, row)) {
    assigned[row] = -1;
    return;
  }
  int32_t owner = 0;
  double nearest = INFINITY;
  for (int64_t g = 0; g < count; ++g)
    for (int j = 0; j < pos_num; ++j) {
      if (candidates[(n * gt.M + g) * pos_num + j] != p) continue;
      const double distance =
          squared_distance(box_frame(gt.boxes + 4 * (n * gt.M + g)), priors[3 * p], priors[3 * p + 1]);
      if (distance < nearest) {
        nearest = distance;
        owner = static_cast<int32_t>(g + 1);
      }
    }
  assigned[row] = owner;
}

// One block per ground truth box: M_g, its largest overlap.
__global__ void gt_max_iou_kernel(const float* __restrict__ boxes, int64_t P, const PaddedBoxes gt,
                                  const uint8_t* __restrict__ valid, float* __restrict__ gt_max) {
  const int64_t id = blockIdx.x, n = id / gt.M;
  if (id % gt.M >= gt.count(n)) return;
  float largest = 0;
  for (int64_t p = threadIdx.x; p < P; p += kBlock)
    if (takes_part(valid, n * P + p)) largest = fmaxf(largest, box_iou(boxes + 4 * (n * P + p), gt.boxes + 4 * id));
  largest = block_reduce(largest, [](float a, float b) { return fmaxf(a, b); });
  if (threadIdx.x == 0) gt_max[id] = largest;
}

// One thread per box.
__global__ void max_iou_assign_kernel(const float* __restrict__ boxes, int64_t P, const PaddedBoxes gt,
                                      const uint8_t* __restrict__ valid, const MaxIouAssign options,
                                      const float* __restrict__ gt_max, int32_t* __restrict__ assigned) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= gt.N * P) return;
  if (!takes_part(valid, row)) {
    assigned[row] = -1;
    return;
  }
  const int64_t n = row / P, count = gt.count(n);
  const float box[4] = {boxes[4 * row], boxes[4 * row + 1], boxes[4 * row + 2], boxes[4 * row + 3]};
  float largest = -1;
  int32_t best = 0, low_quality = 0;
  for (int64_t g = 0; g < count; ++g) {
    const float iou = box_iou(box, gt.boxes + 4 * (n * gt.M + g));
    const int32_t id = static_cast<int32_t>(g + 1);
    if (iou > largest) {
      largest = iou;
      best = id;
    }
    if (iou == gt_max[n * gt.M + g] && iou >= options.min_pos_iou) low_quality = id;
  }
  if (low_quality > 0)
    assigned[row] = low_quality;
  else if (largest < options.neg_iou)  // also without ground truth
    assigned[row] = 0;
  else
    assigned[row] = largest >= options.pos_iou ? best : -1;
}

struct TargetArgs {
  const int32_t* assigned;
  const float* gt_boxes;
  const int32_t* gt_labels;
  int background;
  int32_t* labels;  // null: no class targets
  float* class_weights;
  float* box_targets;
  float* box_weights;
  int64_t rows, P, M;
};

// One thread per prior.
__global__ void gather_targets_kernel(const TargetArgs t) {
  const int64_t row = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (row >= t.rows) return;
  const int32_t a = t.assigned[row];
  const int64_t gt = row / t.P * t.M + a - 1;
  if (t.labels != nullptr) {
    t.labels[row] = a > 0 ? t.gt_labels[gt] : t.background;
    t.class_weights[row] = a < 0 ? 0 : 1;
  }
  for (int c = 0; c < 4; ++c) t.box_targets[4 * row + c] = a > 0 ? t.gt_boxes[4 * gt + c] : 0;
  t.box_weights[row] = a > 0 ? 1 : 0;
}

// A block counts one image; integers, so the order of the additions is of no consequence.
__global__ void count_image_kernel(const int32_t* __restrict__ assigned, int64_t P, int2* __restrict__ images) {
  const int32_t* row = assigned + blockIdx.x * P;
  int positives = 0, negatives = 0;
  for (int64_t p = threadIdx.x; p < P; p += kBlock) {
    const int32_t a = row[p];
    positives += a > 0;
    negatives += a == 0;
  }
  positives = block_sum(positives);
  negatives = block_sum(negatives);
  if (threadIdx.x == 0) images[blockIdx.x] = make_int2(positives, negatives);
}

// One block joins the images.
__global__ void count_assigned_kernel(const int2* __restrict__ images, int64_t N, double* __restrict__ counts) {
  long long sum[4] = {0, 0, 0, 0};
  for (int64_t n = threadIdx.x; n < N; n += kBlock) {
    const int pos = images[n].x, neg = images[n].y, pos_min1 = pos > 1 ? pos : 1, neg_min1 = neg > 1 ? neg : 1;
    sum[0] += pos;
    sum[1] += pos + neg;
    sum[2] += pos_min1;
    sum[3] += pos_min1 + neg_min1;
  }
  for (int i = 0; i < 4; ++i) {
    const long long total = block_sum(sum[i]);
    if (threadIdx.x == 0) counts[i] = static_cast<double>(total);
  }
}

}  // namespace

void point_assign(Cuda& cuda, View<const float> priors, View<const float> gt_boxes, View<const int32_t> gt_counts,
                  View<const uint8_t> valid, const PointAssign& options, View<int32_t> assigned,
                  View<int32_t> workspace) {
  check_point_assign(priors, gt_boxes, gt_counts, valid, options, assigned, workspace);
  const PaddedBoxes gt = {gt_boxes.data(), gt_counts.data(), assigned.dim(0), gt_boxes.dim(1)};
  const int64_t P = assigned.dim(1);
  if (gt.N * P == 0) return;
  int32_t* candidates = workspace.data();
  if (gt.M > 0)
    launch(nearest_priors_kernel, static_cast<unsigned>(gt.N * gt.M), kBlock, 0, cuda.stream(), priors.data(), P, gt,
           valid.data(), options, candidates);
  launch(claim_priors_kernel, blocks_for(gt.N * P, kBlock), kBlock, 0, cuda.stream(), priors.data(), P, gt,
         valid.data(), options.pos_num, candidates, assigned.data());
}

void max_iou_assign(Cuda& cuda, View<const float> boxes, View<const float> gt_boxes, View<const int32_t> gt_counts,
                    View<const uint8_t> valid, const MaxIouAssign& options, View<int32_t> assigned,
                    View<float> workspace) {
  check_max_iou_assign(boxes, gt_boxes, gt_counts, valid, assigned, workspace);
  const PaddedBoxes gt = {gt_boxes.data(), gt_counts.data(), assigned.dim(0), gt_boxes.dim(1)};
  const int64_t P = assigned.dim(1);
  if (gt.N * P == 0) return;
  if (gt.M > 0)
    launch(gt_max_iou_kernel, static_cast<unsigned>(gt.N * gt.M), kBlock, 0, cuda.stream(), boxes.data(), P, gt,
           valid.data(), workspace.data());
  launch(max_iou_assign_kernel, blocks_for(gt.N * P, kBlock), kBlock, 0, cuda.stream(), boxes.data(), P, gt,
         valid.data(), options, workspace.data(), assigned.data());
}

void gather_targets(Cuda& cuda, View<const int32_t> assigned, View<const float> gt_boxes, View<const int32_t> gt_labels,
                    int background, View<int32_t> labels, View<float> class_weights, View<float> box_targets,
                    View<float> box_weights) {
  check_gather_targets(assigned, gt_boxes, gt_labels, labels, class_weights, box_targets, box_weights);
  const int64_t N = assigned.dim(0), P = assigned.dim(1), M = gt_boxes.dim(1);
  if (N * P == 0) return;
  const TargetArgs args = {.assigned = assigned.data(),
                           .gt_boxes = gt_boxes.data(),
                           .gt_labels = gt_labels.data(),
                           .background = background,
                           .labels = labels.data(),
                           .class_weights = class_weights.data(),
                           .box_targets = box_targets.data(),
                           .box_weights = box_weights.data(),
                           .rows = N * P,
                           .P = P,
                           .M = M};
  launch(gather_targets_kernel, blocks_for(N * P, kBlock), kBlock, 0, cuda.stream(), args);
}

void count_assigned(Cuda& cuda, View<const int32_t> assigned, View<double> counts, View<int32_t> workspace) {
  check_count_assigned(assigned, counts);
  const int64_t N = assigned.dim(0);
  require(N == 0 || workspace.size() >= count_assigned_workspace(N), "count_assigned",
          "workspace has " + workspace.shape().to_string() + " int32, needs " +
              std::to_string(count_assigned_workspace(N)));
  auto* images = reinterpret_cast<int2*>(workspace.data());
  if (N > 0)
    launch(count_image_kernel, static_cast<unsigned>(N), kBlock, 0, cuda.stream(), assigned.data(), assigned.dim(1),
           images);
  launch(count_assigned_kernel, 1, kBlock, 0, cuda.stream(), images, N, counts.data());
}

}  // namespace gradlibra::kernels
