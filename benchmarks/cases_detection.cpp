// SPDX-License-Identifier: MIT
// Kernels on points, boxes, logits and parameters.
#include <fmt/format.h>

#include <numeric>

#include "benchmarks/cases.h"
#include "kernels/boxes/assign.h"
#include "kernels/boxes/grid_points.h"
#include "kernels/boxes/nms.h"
#include "kernels/boxes/points_to_boxes.h"
#include "kernels/boxes/select_candidates.h"
#include "kernels/boxes/sort_scores.h"
#include "kernels/elementwise.h"
#include "kernels/losses/class_gradients.h"
#include "kernels/losses/sigmoid_loss.h"
#include "kernels/losses/smooth_l1.h"
#include "kernels/reduce.h"
#include "kernels/scalar.h"
#include "kernels/sgd.h"

namespace gradlibra {

namespace {

class DetectionCases {
 public:
  DetectionCases(const CaseSizes& sizes, std::vector<KernelCase>& cases)
      : sizes_(sizes), cases_(cases), N_(sizes.N), P_(sizes.cells()), M_(sizes.max_boxes) {}

  void add(const char* kernel, std::string shape, std::function<Work(CaseMemory&)> prepare) {
    cases_.push_back({kernel, std::move(shape), dtype_name<float>(), std::move(prepare)});
  }

  void points() {
    const Shape rows{N_, P_, 18};
    const auto priors = cell_priors(sizes_);
    add("points_to_boxes", rows.to_string() + " moment", [=, N = N_, P = P_](CaseMemory& m) {
      const View<float> offsets = m.random(rows), cells = m.upload({P, 3}, priors), moment = m.random({2}),
                        boxes = m.output({N, P, 4});
      return m.work({bytes_of(offsets, boxes)}, [=](auto& device) {
        kernels::points_to_boxes(device, {offsets, cells, moment, kernels::BoxTransform::moment}, boxes);
      });
    });
    add("points_to_boxes_backward", rows.to_string() + " moment", [=, N = N_, P = P_](CaseMemory& m) {
      const View<float> offsets = m.random(rows), cells = m.upload({P, 3}, priors), moment = m.random({2}),
                        grad_boxes = m.random({N, P, 4}), grad_offsets = m.output(rows), grad_moment = m.output({2}),
                        workspace = m.output({kernels::points_to_boxes_workspace(N * P)});
      return m.work({bytes_of(offsets, grad_boxes, grad_offsets)}, [=](auto& device) {
        kernels::points_to_boxes_backward(device, {offsets, cells, moment, kernels::BoxTransform::moment}, grad_boxes,
                                          {.offsets = {grad_offsets}, .moment = {grad_moment}, .moment_mul = 0.01f},
                                          workspace);
      });
    });
  }

  // Of the finest level, from the boxes of the first stage.
  void grids() {
    const Shape boxes{N_, sizes_.level_map(0)[1] * sizes_.level_map(0)[2], 4}, points{N_, boxes[1], 18};
    add("grid_points", boxes.to_string(), [=](CaseMemory& m) {
      const View<float> regression = m.random(boxes), previous = m.boxes(boxes, 32, 1, 8), to = m.output(points),
                        made = m.output(boxes);
      return m.work({bytes_of(regression, previous, to, made)},
                    [=](auto& device) { kernels::grid_points(device, regression, {previous}, to, made); });
    });
    add("grid_points_backward", boxes.to_string(), [=](CaseMemory& m) {
      const View<float> regression = m.random(boxes), previous = m.boxes(boxes, 32, 1, 8),
                        grad_points = m.random(points), grad = m.output(boxes);
      return m.work({bytes_of(regression, previous, grad_points, grad)}, [=](auto& device) {
        kernels::grid_points_backward(device, regression, {previous}, grad_points, {grad});
      });
    });
  }

  // Offsets of the finest level to those of a deformable convolution's taps.
  void taps() {
    const Shape map{N_, sizes_.level_map(0)[1], sizes_.level_map(0)[2], 18};
    add("subtract_row", map.to_string(), [=](CaseMemory& m) {
      const View<float> x = m.random(map), row = m.random({18}), y = m.output(map);
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::subtract_row(device, x, row, y); });
    });
  }

  // With `count` real boxes in every image.
  void assigners(int64_t count) {
    const std::string shape = fmt::format("({}, {}) cells, {} of {} boxes", N_, P_, count, M_);
    const auto priors = cell_priors(sizes_);
    const std::vector<int32_t> counts(static_cast<size_t>(N_), static_cast<int32_t>(count));
    const auto pairs = static_cast<double>(N_ * P_ * count);
    add("point_assign", shape, [=, self = *this](CaseMemory& m) {
      const int64_t N = self.N_, P = self.P_, M = self.M_;
      const View<float> cells = m.upload({P, 3}, priors), gt = self.truth(m);
      const View<int32_t> gt_counts = m.upload({N}, counts), assigned = m.output<int32_t>({N, P}),
                          workspace = m.output<int32_t>({kernels::point_assign_workspace(N, M, {})});
      return m.work({bytes_of(cells, gt) + bytes_of(assigned)}, [=](auto& device) {
        kernels::point_assign(device, cells, gt, gt_counts, {}, {}, assigned, workspace);
      });
    });
    add("max_iou_assign", shape, [=, self = *this](CaseMemory& m) {
      const int64_t N = self.N_, P = self.P_, M = self.M_;
      const View<float> boxes = m.boxes({N, P, 4}, self.sizes_.size, 16, 128), gt = self.truth(m),
                        workspace = m.output({kernels::max_iou_assign_workspace(N, M)});
      const View<int32_t> gt_counts = m.upload({N}, counts), assigned = m.output<int32_t>({N, P});
      // An overlap is about 14 operations.
      return m.work({bytes_of(boxes, gt) + bytes_of(assigned), 14 * pairs}, [=](auto& device) {
        kernels::max_iou_assign(device, boxes, gt, gt_counts, {}, {}, assigned, workspace);
      });
    });
  }

  void targets() {
    const Shape rows{N_, P_};
    add("gather_targets", rows.to_string(), [=, self = *this](CaseMemory& m) {
      const View<int32_t> assigned = m.random_int(rows, std::min<int64_t>(20, self.M_ + 1)),
                          gt_labels = m.random_int({self.N_, self.M_}, 10), labels = m.output<int32_t>(rows);
      const View<float> gt = self.truth(m), class_weights = m.output(rows), box_weights = m.output(rows),
                        box_targets = m.output({rows[0], rows[1], 4});
      return m.work({bytes_of(assigned, labels) + bytes_of(class_weights, box_weights, box_targets)},
                    [=](auto& device) {
                      kernels::gather_targets(device, assigned, gt, gt_labels, 10, labels, class_weights, box_targets,
                                              box_weights);
                    });
    });
    add("count_assigned", rows.to_string(), [=](CaseMemory& m) {
      const View<int32_t> assigned = m.random_int(rows, 20);
      const View<double> counts = m.output<double>({4});
      const View<int32_t> workspace = m.output<int32_t>({kernels::count_assigned_workspace(rows[0])});
      return m.work({bytes_of(assigned)},
                    [=](auto& device) { kernels::count_assigned(device, assigned, counts, workspace); });
    });
  }

  void losses() {
    const int64_t R = N_ * P_, C = sizes_.classes;
    const Shape logits_shape{R, C};
    add("class_gradients", logits_shape.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random(logits_shape, -6, 2), grads = m.random(logits_shape, -0.01, 0.01),
                        weights = m.random({R}, 0.5, 1);
      std::vector<int32_t> places(static_cast<size_t>(C));
      std::iota(places.begin(), places.end(), 0);
      const View<int32_t> labels = m.random_int({R}, C + 1), channels = m.upload({C}, places);
      const View<double> sums = m.output<double>({kernels::class_gradients_size(C)}),
                         normalizer = m.random<double>({1}, 100, 101),
                         workspace = m.output<double>({kernels::class_gradients_workspace(R, C)});
      return m.work({bytes_of(logits, grads, weights) + bytes_of(labels)}, [=](auto& device) {
        kernels::class_gradients(device, logits, grads, labels, weights, channels, normalizer, {}, sums, workspace);
      });
    });
    add("sigmoid", logits_shape.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random(logits_shape, -6, 2), scores = m.output(logits_shape);
      return m.work({bytes_of(logits, scores)}, [=](auto& device) { kernels::sigmoid(device, logits, scores); });
    });
    const Shape boxes{N_, P_, 4};
    add("smooth_l1", boxes.to_string(), [=, size = sizes_.size](CaseMemory& m) {
      const View<float> pred = m.boxes(boxes, size, 16, 128), target = m.boxes(boxes, size, 16, 128),
                        weights = m.random({boxes[0], boxes[1]}, 0.5, 1), scales = m.random({boxes[1]}, 0.01, 0.03),
                        grad_pred = m.output(boxes);
      const View<double> value = m.output<double>({1}), normalizer = m.random<double>({1}, 100, 101),
                         workspace = m.output<double>({kernels::smooth_l1_workspace(boxes[0] * boxes[1])});
      return m.work({bytes_of(pred, target, weights, grad_pred)}, [=](auto& device) {
        kernels::smooth_l1(device, pred, target, weights, scales, 0.11f,
                           {1.0, normalizer, value, grad_pred, workspace});
      });
    });
  }

  // `candidates` boxes an image, of which at most 100 are kept.
  void suppression(int64_t images, int64_t candidates) {
    const Shape rows{images, candidates};
    add("multiclass_nms", rows.to_string(), [=, C = sizes_.classes, size = sizes_.size](CaseMemory& m) {
      const View<float> boxes = m.boxes({rows[0], rows[1], 4}, size, 16, 128), scores = m.random(rows, 0, 1);
      const std::vector<int32_t> all(static_cast<size_t>(rows[0]), static_cast<int32_t>(rows[1]));
      const View<int32_t> labels = m.random_int(rows, C), counts = m.upload({rows[0]}, all),
                          keep = m.output<int32_t>({rows[0], 100}), kept_counts = m.output<int32_t>({rows[0]});
      int64_t size_of_workspace = 0;
      m.context().run([&](auto& device) { size_of_workspace = kernels::nms_workspace(device, rows[0], rows[1]); });
      const View<int64_t> workspace = m.output<int64_t>({size_of_workspace});
      return m.work({bytes_of(boxes, scores) + bytes_of(labels, keep)}, [=](auto& device) {
        kernels::multiclass_nms(device, {boxes, scores, labels, counts}, 0.5f, keep, kept_counts, workspace);
      });
    });
  }

  // Before and behind the suppression: the best 1000 entries of each level, and what is left of them. One score in
  // fifty passes the threshold.
  void selection() {
    const int64_t N = N_, P = P_, C = sizes_.classes;
    std::vector<int64_t> levels(kLevels);
    for (int l = 0; l < kLevels; ++l) levels[static_cast<size_t>(l)] = sizes_.level_map(l)[1] * sizes_.level_map(l)[2];
    const kernels::CandidateOptions options;
    const int64_t K = kernels::candidates_per_image(levels, C, options.nms_pre);
    add("select_candidates", Shape{N, P, C}.to_string(), [=, size = sizes_.size](CaseMemory& m) {
      const View<float> scores = m.random({N, P, C}, -2.5, 0.1), factors = m.random({N, P}, 0, 1),
                        from = m.boxes({N, P, 4}, size, 16, 128), boxes = m.output({N, K, 4}), kept = m.output({N, K});
      const View<int32_t> sizes = m.upload({N, 2}, std::vector<int32_t>(static_cast<size_t>(2 * N), 480)),
                          labels = m.output<int32_t>({N, K}), sources = m.output<int32_t>({N, K}),
                          counts = m.output<int32_t>({N});
      int64_t size_of_workspace = 0;
      m.context().run(
          [&](auto& device) { size_of_workspace = kernels::select_candidates_workspace(device, N, P, C, K); });
      const View<int64_t> workspace = m.output<int64_t>({size_of_workspace});
      return m.work({bytes_of(scores, factors, boxes, kept) + bytes_of(labels, sources)}, [=](auto& device) {
        kernels::select_candidates(device, scores, factors, from, levels, sizes, options,
                                   {boxes, kept, labels, sources, counts}, workspace);
      });
    });
    add("sort_scores", Shape{N, P * C}.to_string(), [=](CaseMemory& m) {
      std::vector<int64_t> lengths = levels;
      for (int64_t& length : lengths) length *= C;
      const View<float> scores = m.random({N, P * C}, -2.5, 0.1);
      const View<int32_t> order = m.output<int32_t>({N, kernels::sorted_size(lengths, options.nms_pre)});
      int64_t size_of_workspace = 0;
      m.context().run([&](auto& device) { size_of_workspace = kernels::sort_scores_workspace(device, N, P * C); });
      const View<int64_t> workspace = m.output<int64_t>({size_of_workspace});
      return m.work({bytes_of(scores) + bytes_of(order)}, [=](auto& device) {
        kernels::sort_scores(device, scores, lengths, options.nms_pre, options.score_threshold, order, workspace);
      });
    });
    add("gather_detections", Shape{N, 100}.to_string(), [=, size = sizes_.size](CaseMemory& m) {
      const View<float> boxes = m.boxes({N, K, 4}, size, 16, 128), scores = m.random({N, K}, 0, 1),
                        detections = m.output({N, 100, 6});
      const View<int32_t> labels = m.random_int({N, K}, C), keep = m.random_int({N, 100}, K);
      return m.work({2 * bytes_of(detections) + bytes_of(keep)},
                    [=](auto& device) { kernels::gather_detections(device, boxes, scores, labels, keep, detections); });
    });
  }

  // Over all `count` trainable values of the network at once.
  void parameters(int64_t count) {
    const Shape all{count};
    add("sum_squares", all.to_string(), [=](CaseMemory& m) {
      const View<float> x = m.random(all);
      const View<double> out = m.output<double>({1}), workspace = m.output<double>({kernels::reduce_workspace(count)});
      return m.work({bytes_of(x)},
                    [=](auto& device) { kernels::sum_squares(device, x, out, Accumulate::overwrite, workspace); });
    });
    add("sgd_step", all.to_string(), [=](CaseMemory& m) {
      const View<float> param = m.random(all), grad = m.random(all), velocity = m.output(all),
                        lr = m.random({1}, 1e-9, 2e-9), grad_scale = m.random({1}, 0.5, 1);
      return m.work({bytes_of(param, param, grad, velocity, velocity)},
                    [=](auto& device) { kernels::sgd_step(device, param, grad, velocity, lr, grad_scale, {}); });
    });
    // One value each: what a launch costs.
    add("clip_factor", "(1)", [=](CaseMemory& m) {
      const View<double> squares = m.random<double>({1}, 1, 2);
      const View<float> grad_scale = m.output({1});
      return m.work({bytes_of(squares) + bytes_of(grad_scale)},
                    [=](auto& device) { kernels::clip_factor(device, squares, {}, 35, grad_scale); });
    });
    const Shape classifier{sizes_.classes, 256};
    add("sum_row_squares", classifier.to_string(), [=](CaseMemory& m) {
      const View<float> x = m.random(classifier);
      const View<double> out = m.output<double>({classifier[0]});
      return m.work({bytes_of(x)}, [=](auto& device) { kernels::sum_row_squares(device, x, out); });
    });
    add("scaled_maximum", "(1)", [=](CaseMemory& m) {
      const View<double> x = m.random<double>({1}, 1, 2), y = m.output<double>({1});
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::scaled_maximum(device, x, 1, 1, y); });
    });
  }

 private:
  [[nodiscard]] View<float> truth(CaseMemory& m) const { return m.boxes({N_, M_, 4}, sizes_.size, 16, 128); }
  CaseSizes sizes_;
  std::vector<KernelCase>& cases_;
  int64_t N_, P_, M_;
};

}  // namespace

void add_detection_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  DetectionCases add(sizes, cases);
  add.points();
  add.grids();
  add.taps();
  add.assigners(std::min<int64_t>(64, sizes.max_boxes));
  add.assigners(sizes.max_boxes);
  add.targets();
  add.losses();
  for (const int64_t candidates : {1000, 10000}) add.suppression(sizes.N, candidates);
  if (sizes.N > 1) add.suppression(1, 10000);
  add.selection();
  add.parameters(sizes.parameters);
}

}  // namespace gradlibra
