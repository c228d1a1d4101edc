// SPDX-License-Identifier: MIT
// The RepPoints head (arXiv:1904.11490): two towers shared by all pyramid levels, an initial and a refined point set
// per cell, and classification on deformable features sampled at the initial points.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/boxes/assign.h"
#include "kernels/boxes/points_to_boxes.h"
#include "models/anchors.h"
#include "models/assigners/assignment.h"
#include "models/heads/head.h"
#include "models/heads/reppoints_config.h"
#include "models/heads/reppoints_ops.h"
#include "models/layers.h"
#include "models/losses/classification_loss.h"
#include "models/priors.h"
#include "models/pyramid.h"

namespace gradlibra {

class RepPointsHead final : public Head {
 public:
  // Parameters are named as MMDetection's, "bbox_head." in front. std::invalid_argument names the configuration key
  // that does not fit.
  RepPointsHead(ParameterStore& store, const RepPointsConfig& config, const Pyramid& pyramid,
                std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer);

  // loss_cls, loss_pts_init, loss_pts_refine. Notes
  //   bbox_head.level<l>.{cls_feat,reg_feat,pts_init,cls_out,pts_refine}   per level (N, H_l, W_l, channels); points
  //                                                                        are (y, x) in strides from the cell's point
  //   bbox_head.{init,refine}_boxes                                        (N, P, 4) pixels
  //   targets.{init,refine}_assigned                                       (N, P), as Assignment::matched
  //   targets.{init,refine}_normalizer                                     of the first box loss, of the classification
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                           Communicator& ranks) override;
  [[nodiscard]] Predictions predict(Tape& tape, std::span<const Var> levels) override;
  [[nodiscard]] Classifier classifier() const override { return {cls_out_.weight, loss_.get()}; }

 private:
  struct Outputs {  // one of each per level
    std::vector<Var> logits, init_offsets, refine_offsets;
  };
  [[nodiscard]] Outputs forward(Tape& tape, std::span<const Var> levels) const;
  // The points of a stage, in strides from the cell's point, from what its last layer gives: those of the first stage
  // where `before` is empty, else those that refine it. With their boxes where they are grids on such.
  [[nodiscard]] ops::GridPoints points(Tape& tape, Var output, const ops::GridPoints& before) const;
  // What the rows of a stage learn: the first from the points nearest to an object, the second from the boxes that the
  // first made of them.
  struct Stage {
    Assignment assigned;
    Targets targets;
  };
  [[nodiscard]] std::pair<Stage, Stage> assign(Tape& tape, std::span<const Var> levels, const Priors& cells,
                                               Var init_boxes, const GroundTruth& truth);
  // Which cells answer for which objects in the first stage.
  [[nodiscard]] Assignment assign_first(Tape& tape, std::span<const Var> levels, const Priors& cells,
                                        const GroundTruth& truth, const Tensor& valid);
  // Offsets of all levels (N, P, 2 * points) to boxes (N, P, 4).
  [[nodiscard]] Var boxes(Tape& tape, Var offsets, const Priors& cells) const;
  [[nodiscard]] Tensor box_loss(Tape& tape, Var boxes, const Targets& targets, const Priors& cells, double weight,
                                const Tensor& divisor) const;

  RepPointsConfig config_;
  int classes_;
  int side_ = 0;  // of the square of points
  kernels::BoxTransform transform_;
  kernels::PointAssign by_point_;  // first stage
  kernels::MaxIouAssign by_iou_;   // second stage
  Normalizer normalizer_, box_normalizer_;
  std::unique_ptr<ClassificationLoss> loss_;
  PriorGrid priors_;
  AnchorGrid squares_;  // of point_base_scale strides, around the cells' points
  Tensor grid_;         // (2 * points) the regular grid of a deformable kernel, (y, x) pairs
  Tensor minus_start_;  // (2 * points) less a grid of point_base_scale, which points without center_init start from
  std::vector<ConvModule> cls_convs_, reg_convs_;
  ConvLayer cls_conv_, cls_out_, init_conv_, init_out_, refine_conv_, refine_out_;
  Parameter* moment_ = nullptr;  // of the moment transform, else null
};

}  // namespace gradlibra
