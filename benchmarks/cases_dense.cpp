// SPDX-License-Identifier: MIT
// Kernels of heads that predict a box and its centerness in every cell.
#include <fmt/format.h>

#include "benchmarks/cases.h"
#include "kernels/boxes/centerness.h"
#include "kernels/boxes/distance_coder.h"
#include "kernels/boxes/fcos_assign.h"
#include "kernels/boxes/valid_cells.h"
#include "kernels/losses/binary_cross_entropy.h"
#include "kernels/losses/iou_loss.h"
#include "kernels/scaled_activation.h"

namespace gradlibra {

namespace {

class DenseCases {
 public:
  DenseCases(const CaseSizes& sizes, std::vector<KernelCase>& cases)
      : sizes_(sizes), cases_(cases), N_(sizes.N), P_(sizes.cells()), M_(sizes.max_boxes) {}

  void add(const char* kernel, std::string shape, std::function<Work(CaseMemory&)> prepare) {
    cases_.push_back({kernel, std::move(shape), dtype_name<float>(), std::move(prepare)});
  }

  // What FCOS has beside the losses: cells to objects, distances, centerness, the scale of the finest level.
  void cells() {
    const Shape rows{N_, P_}, boxes{N_, P_, 4};
    const auto priors = cell_priors(sizes_);
    add("valid_cells", rows.to_string(), [=](CaseMemory& m) {
      const View<float> cells = m.upload({rows[1], 3}, priors);
      const std::vector<int32_t> all(static_cast<size_t>(2 * rows[0]), 480);
      const View<int32_t> sizes = m.upload({rows[0], 2}, all), orientations = m.output<int32_t>({rows[0]});
      const View<uint8_t> valid = m.output<uint8_t>(rows);
      return m.work({bytes_of(cells) + bytes_of(valid)},
                    [=](auto& device) { kernels::valid_cells(device, cells, sizes, orientations, 32, valid); });
    });
    const std::vector<int32_t> counts(static_cast<size_t>(N_), static_cast<int32_t>(M_));
    const kernels::FcosAssign levels{.levels = 5,
                                     .strides = {8, 16, 32, 64, 128},
                                     .least = {-1, 64, 128, 256, 512},
                                     .most = {64, 128, 256, 512, 1e8f}};
    add("fcos_assign", fmt::format("({}, {}) cells, {} boxes", N_, P_, M_),
        [=, M = M_, size = sizes_.size](CaseMemory& m) {
          const View<float> cells = m.upload({rows[1], 3}, priors), gt = m.boxes({rows[0], M, 4}, size, 16, 128);
          const View<int32_t> gt_counts = m.upload({rows[0]}, counts), assigned = m.output<int32_t>(rows);
          const double pairs = static_cast<double>(rows.size()) * static_cast<double>(M);
          return m.work({bytes_of(cells, gt) + bytes_of(assigned), 12 * pairs},
                        [=](auto& device) { kernels::fcos_assign(device, cells, gt, gt_counts, levels, assigned); });
        });
    add("encode_distances", boxes.to_string(), [=, size = sizes_.size](CaseMemory& m) {
      const View<float> cells = m.upload({rows[1], 3}, priors), from = m.boxes(boxes, size, 16, 128),
                        weights = m.random(rows, 0.5, 1), distances = m.output(boxes);
      return m.work({bytes_of(from, weights, distances)}, [=](auto& device) {
        kernels::encode_distances(device, from, weights, cells, kernels::DistanceUnit::stride, distances);
      });
    });
    add("decode_distances", boxes.to_string(), [=](CaseMemory& m) {
      const View<float> cells = m.upload({rows[1], 3}, priors), distances = m.random(boxes, 0, 8), to = m.output(boxes);
      return m.work({bytes_of(distances, to)}, [=](auto& device) {
        kernels::decode_distances(device, distances, cells, kernels::DistanceUnit::stride, to);
      });
    });
    add("centerness_targets", rows.to_string(), [=, size = sizes_.size](CaseMemory& m) {
      const View<float> cells = m.upload({rows[1], 3}, priors), of = m.boxes(boxes, size, 16, 128),
                        weights = m.random(rows, 0.5, 1), centerness = m.output(rows);
      const View<double> sum = m.output<double>({1}),
                         workspace = m.output<double>({kernels::centerness_workspace(rows.size())});
      return m.work({bytes_of(of, weights, centerness)}, [=](auto& device) {
        kernels::centerness_targets(device, cells, of, weights, centerness, sum, workspace);
      });
    });
    const int64_t side = sizes_.level_map(0)[1];
    const Shape map{N_, side, side, 4};
    add("scaled_activation", map.to_string() + " exp", [=](CaseMemory& m) {
      const View<float> x = m.random(map), scale = m.random({1}), y = m.output(map);
      return m.work({bytes_of(x, y)}, [=](auto& device) {
        kernels::scaled_activation(device, x, scale, kernels::ScaledActivation::exp, y);
      });
    });
    add("scaled_activation_backward", map.to_string() + " exp", [=](CaseMemory& m) {
      const View<float> x = m.random(map), scale = m.random({1}), y = m.random(map), grad_y = m.random(map),
                        grad_x = m.output(map), grad_scale = m.output({1});
      const View<double> workspace = m.output<double>({kernels::scaled_activation_workspace(map.size())});
      return m.work({bytes_of(x, y, grad_y, grad_x)}, [=](auto& device) {
        kernels::scaled_activation_backward(device, x, scale, kernels::ScaledActivation::exp, y, grad_y,
                                            {grad_x, Accumulate::overwrite}, {grad_scale, Accumulate::overwrite},
                                            workspace);
      });
    });
  }

  // Every row a positive one; in training most cost no more than their weight.
  void losses() {
    const int64_t R = N_ * P_;
    for (const auto& [name, mode] : {std::pair("log", kernels::IouMode::log), {"giou", kernels::IouMode::giou}})
      add("iou_loss", Shape{R, 4}.to_string() + " " + name, [=, mode = mode](CaseMemory& m) {
        const View<float> pred = m.random({R, 4}, 1, 64), target = m.random({R, 4}, 1, 64),
                          weights = m.random({R}, 0.5, 1), grad_pred = m.output({R, 4});
        const View<double> value = m.output<double>({1}), normalizer = m.random<double>({1}, 100, 101),
                           workspace = m.output<double>({kernels::iou_loss_workspace(R)});
        const kernels::IouLoss options{.mode = mode, .form = kernels::BoxForm::distances};
        return m.work({bytes_of(pred, target, weights, grad_pred)}, [=](auto& device) {
          kernels::iou_loss(device, pred, target, weights, options, {1.0, normalizer, value, grad_pred, workspace});
        });
      });
    add("binary_cross_entropy", Shape{R}.to_string(), [=](CaseMemory& m) {
      const View<float> logits = m.random({R}, -6, 2), targets = m.random({R}, 0, 1), weights = m.random({R}, 0.5, 1),
                        grad_logits = m.output({R});
      const View<double> value = m.output<double>({1}), normalizer = m.random<double>({1}, 100, 101),
                         workspace = m.output<double>({kernels::binary_cross_entropy_workspace(R)});
      return m.work({bytes_of(logits, targets, weights, grad_logits)}, [=](auto& device) {
        kernels::binary_cross_entropy(device, logits, targets, weights,
                                      {1.0, normalizer, value, grad_logits, workspace});
      });
    });
  }

 private:
  CaseSizes sizes_;
  std::vector<KernelCase>& cases_;
  int64_t N_, P_, M_;
};

}  // namespace

void add_dense_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  DenseCases add(sizes, cases);
  add.cells();
  add.losses();
}

}  // namespace gradlibra
