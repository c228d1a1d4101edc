// SPDX-License-Identifier: MIT
// Kernels of heads with anchors: ATSS over the pyramid, YOLOF over one level.
#include <fmt/format.h>

#include "benchmarks/cases.h"
#include "kernels/boxes/atss_assign.h"
#include "kernels/boxes/delta_boxes.h"
#include "kernels/boxes/uniform_assign.h"
#include "kernels/losses/implicit_objectness.h"

namespace gradlibra {

namespace {

// Squares of `scales` strides around every cell's corner; priors: (cells, 3) x, y, stride.
std::vector<float> squares(const std::vector<float>& priors, const std::vector<float>& scales) {
  std::vector<float> anchors;
  for (size_t p = 0; p < priors.size(); p += 3)
    for (const float scale : scales) {
      const float half = scale * priors[p + 2] / 2;
      anchors.insert(anchors.end(), {priors[p] - half, priors[p + 1] - half, priors[p] + half, priors[p + 1] + half});
    }
  return anchors;
}

class AnchorCases {
 public:
  AnchorCases(const CaseSizes& sizes, std::vector<KernelCase>& cases) : sizes_(sizes), cases_(cases) {
    // YOLOF's level is the pyramid's third, of stride 32.
    const std::vector<float> all = cell_priors(sizes);
    std::vector<float> coarse;
    for (size_t p = 0; p < all.size(); p += 3)
      if (all[p + 2] == 32) coarse.insert(coarse.end(), {all[p], all[p + 1], all[p + 2]});
    pyramid_ = squares(all, {8});
    level_ = squares(coarse, {1, 2, 4, 8, 16});
  }

  void add(const char* kernel, std::string shape, std::function<Work(CaseMemory&)> prepare) {
    cases_.push_back({kernel, std::move(shape), dtype_name<float>(), std::move(prepare)});
  }

  void coder() {
    const Shape boxes{sizes_.N, static_cast<int64_t>(pyramid_.size()) / 4, 4};
    add("decode_deltas", boxes.to_string(), [=, anchors = pyramid_](CaseMemory& m) {
      const View<float> from = m.upload({boxes[1], 4}, anchors), deltas = m.random(boxes), to = m.output(boxes);
      return m.work({bytes_of(from, deltas, to)},
                    [=](auto& device) { kernels::decode_deltas(device, from, deltas, {}, to); });
    });
    add("decode_deltas_backward", boxes.to_string(), [=, anchors = pyramid_](CaseMemory& m) {
      const View<float> from = m.upload({boxes[1], 4}, anchors), deltas = m.random(boxes), grad_boxes = m.random(boxes),
                        grad = m.output(boxes);
      return m.work({bytes_of(from, deltas, grad_boxes, grad)}, [=](auto& device) {
        kernels::decode_deltas_backward(device, from, deltas, {}, grad_boxes, grad, Accumulate::overwrite);
      });
    });
  }

  // With every place for ground truth taken.
  void assigners() {
    const int64_t N = sizes_.N, M = sizes_.max_boxes;
    const std::vector<int32_t> counts(static_cast<size_t>(N), static_cast<int32_t>(M));
    const auto P = static_cast<int64_t>(pyramid_.size()) / 4, L = static_cast<int64_t>(level_.size()) / 4;
    std::vector<int64_t> level_rows(kLevels);
    for (int l = 0; l < kLevels; ++l)
      level_rows[static_cast<size_t>(l)] = sizes_.level_map(l)[1] * sizes_.level_map(l)[2];
    add("atss_assign", fmt::format("({}, {}) anchors, {} boxes", N, P, M),
        [=, anchors = pyramid_, size = sizes_.size](CaseMemory& m) {
          const View<float> from = m.upload({P, 4}, anchors), gt = m.boxes({N, M, 4}, size, 16, 128);
          const View<int32_t> gt_counts = m.upload({N}, counts), assigned = m.output<int32_t>({N, P});
          const View<double> workspace = m.output<double>({kernels::atss_assign_workspace(N, M, kLevels, {})});
          // A search for one of nine neighbours is about 8 operations an anchor, an overlap 14.
          const double pairs = static_cast<double>(N * P * M);
          return m.work({bytes_of(from, gt) + bytes_of(assigned), (9 * 8 + 14) * pairs}, [=](auto& device) {
            kernels::atss_assign(device, from, level_rows, gt, gt_counts, {}, {}, assigned, workspace);
          });
        });
    add("uniform_assign", fmt::format("({}, {}) anchors, {} boxes", N, L, M),
        [=, anchors = level_, size = sizes_.size](CaseMemory& m) {
          const View<float> from = m.upload({L, 4}, anchors), boxes = m.boxes({N, L, 4}, size, 16, 128),
                            gt = m.boxes({N, M, 4}, size, 16, 128);
          const View<int32_t> gt_counts = m.upload({N}, counts), assigned = m.output<int32_t>({N, L}),
                              pairs = m.output<int32_t>({N, 8, M});
          const double work = static_cast<double>(N * L * M);
          return m.work({bytes_of(from, boxes, gt) + bytes_of(assigned, pairs), (8 * 12 + 14) * work},
                        [=](auto& device) {
                          kernels::uniform_assign(device, from, boxes, gt, gt_counts, {}, {}, assigned, pairs);
                        });
        });
    add("gather_pairs", fmt::format("({}, 8, {}) of {} anchors", N, M, L), [=, size = sizes_.size](CaseMemory& m) {
      const View<int32_t> pairs = m.random_int({N, 8, M}, L);
      const View<float> boxes = m.boxes({N, L, 4}, size, 16, 128), gt = m.boxes({N, M, 4}, size, 16, 128),
                        rows = m.output({N, 8, M, 4}), targets = m.output({N, 8, M, 4}), weights = m.output({N, 8, M});
      return m.work({bytes_of(rows, rows, targets, weights) + bytes_of(pairs)},
                    [=](auto& device) { kernels::gather_pairs(device, pairs, boxes, gt, rows, targets, weights); });
    });
    add("gather_pairs_backward", fmt::format("({}, 8, {}) of {} anchors", N, M, L), [=](CaseMemory& m) {
      const View<int32_t> pairs = m.random_int({N, 8, M}, L);
      const View<float> grad_rows = m.random({N, 8, M, 4}), grad = m.output({N, L, 4});
      return m.work({bytes_of(grad_rows, grad) + bytes_of(pairs)}, [=](auto& device) {
        kernels::gather_pairs_backward(device, pairs, grad_rows, grad, Accumulate::overwrite);
      });
    });
  }

  void objectness() {
    const int64_t R = sizes_.N * static_cast<int64_t>(level_.size()) / 4, C = sizes_.classes;
    const Shape shape{R, C};
    add("implicit_objectness", shape.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random(shape, -6, 2), objects = m.random({R}, -4, 2), z = m.output(shape);
      return m.work({bytes_of(logits, objects, z)},
                    [=](auto& device) { kernels::implicit_objectness(device, logits, objects, z); });
    });
    add("implicit_objectness_backward", shape.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random(shape, -6, 2), objects = m.random({R}, -4, 2), grad_z = m.random(shape),
                        grad_logits = m.output(shape), grad_objects = m.output({R});
      return m.work({bytes_of(logits, grad_z, grad_logits, grad_objects)}, [=](auto& device) {
        kernels::implicit_objectness_backward(device, logits, objects, grad_z, grad_logits, Accumulate::overwrite,
                                              grad_objects, Accumulate::overwrite);
      });
    });
  }

 private:
  CaseSizes sizes_;
  std::vector<KernelCase>& cases_;
  std::vector<float> pyramid_, level_;
};

}  // namespace

void add_anchor_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  AnchorCases add(sizes, cases);
  add.coder();
  add.assigners();
  add.objectness();
}

}  // namespace gradlibra
