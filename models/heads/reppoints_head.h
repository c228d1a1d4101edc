// SPDX-License-Identifier: MIT
// The RepPoints head (arXiv:1904.11490): two towers shared by all pyramid levels, an initial and a refined point set per cell, and
// classification on deformable features sampled at the initial points.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "models/config.h"
#include "models/layers.h"
#include "models/losses/classification_loss.h"
#include "models/targets.h"
#include "runtime/communicator.h"

namespace gradlibra {

class RepPointsHead {
 public:
  // strides: of the pyramid levels, the finest first.
  RepPointsHead(ParameterStore& store, const HeadConfig& config, const LossConfig& loss, int in_channels,
                std::vector<int> strides, int classes);

  // Per level (N, H_l, W_l, channels). Offsets are (y, x) pairs in strides, relative to the cell's point.
  struct Outputs {
    std::vector<Var> logits, init_offsets, refine_offsets;
  };
  [[nodiscard]] Outputs operator()(Tape& tape, std::span<const Var> levels) const;

  // What the two stages were told, for inspection. Assignments (N, P): 0 background, -1 ignored, k > 0 = ground truth k - 1.
  struct Targets {
    Tensor init_assigned, refine_assigned;
    Tensor init_counts, refine_counts;          // (4) doubles, kernels/assign.h count_assigned
    Tensor init_normalizer, refine_normalizer;  // (1) double
  };

  // loss_cls, loss_pts_init, loss_pts_refine. Gradients stand in the outputs' nodes afterwards, for tape.backward().
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, const Outputs& outputs, const GroundTruth& truth,
                                           Communicator& communicator, Targets* inspect = nullptr) const;

  // Detections of every image in network pixels, boxes clipped to its content: sizes (N, 2) height, width on the host.
  [[nodiscard]] std::vector<std::vector<ScoredBox>> detect(Tape& tape, const Outputs& outputs,
                                                           std::span<const int32_t> sizes,
                                                           const TestConfig& test) const;

  [[nodiscard]] int classes() const { return classes_; }
  [[nodiscard]] std::vector<TrainingState> state() const { return loss_->state(); }

 private:
  // The cells of all levels as (x, y, stride), and 1 / (base scale * stride) per cell: depend on the level sizes only.
  struct Priors {
    Tensor points;      // (P, 3)
    Tensor box_scales;  // (P)
    std::vector<int64_t> level_rows;
  };
  const Priors& priors(Context& context, const std::vector<Var>& levels) const;
  // counts as of kernels/assign.h to the divisor of a stage's losses.
  [[nodiscard]] Tensor normalizer(Tape& tape, Tensor& counts, bool classification, Communicator& communicator) const;

  HeadConfig config_;
  std::string normalizer_;
  std::vector<int> strides_;
  int classes_;
  kernels::BoxTransform transform_;
  std::unique_ptr<ClassificationLoss> loss_;
  Tensor grid_;  // (2 * points) the regular grid of a deformable kernel, (y, x) pairs
  std::vector<ConvModule> cls_convs_, reg_convs_;
  ConvLayer cls_conv_, cls_out_, init_conv_, init_out_, refine_conv_, refine_out_;
  Parameter* moment_ = nullptr;                            // of the moment transform, else null
  mutable std::map<std::vector<int64_t>, Priors> priors_;  // by level heights and widths
};

}  // namespace gradlibra
