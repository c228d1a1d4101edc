// SPDX-License-Identifier: MIT
// The FCOS head (arXiv:1904.01355): two towers shared by all pyramid levels; every cell predicts its classes, the
// distances from its centre to the four sides of a box, and how central it is in that box.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/boxes/distance_coder.h"
#include "kernels/boxes/fcos_assign.h"
#include "models/assigners/assignment.h"
#include "models/assigners/centerness.h"
#include "models/heads/fcos_config.h"
#include "models/heads/head.h"
#include "models/heads/tower.h"
#include "models/losses/classification_loss.h"
#include "models/priors.h"
#include "models/pyramid.h"

namespace gradlibra {

class FcosHead final : public Head {
 public:
  // Parameters are named as MMDetection's, "bbox_head." in front. std::invalid_argument names the configuration key
  // that does not fit.
  FcosHead(ParameterStore& store, const FcosConfig& config, const Pyramid& pyramid,
           std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer);

  // loss_cls, loss_bbox, loss_centerness. Notes
  //   bbox_head.level<l>.{cls_out,distances,centerness}  per level (N, H_l, W_l, channels); distances left, top, right,
  //                                                      bottom in pixels, with norm_on_bbox in strides; else logits
  //   targets.{assigned,labels,centerness,distances}     (N, P); distances (N, P, 4), in the same unit
  //   targets.{class,box}_normalizer                     of loss_cls, and the sum of centerness of loss_bbox
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                           Communicator& ranks) override;
  [[nodiscard]] Predictions predict(Tape& tape, std::span<const Var> levels) override;
  [[nodiscard]] Classifier classifier() const override { return {cls_out_.weight, loss_.get()}; }

 private:
  struct Outputs {   // of all levels, one behind the other
    Var logits;      // (N, P, channels of the loss)
    Var distances;   // (N, P, 4)
    Var centerness;  // (N, P, 1) logits
  };
  [[nodiscard]] Outputs forward(Tape& tape, std::span<const Var> levels) const;
  struct Assigned {  // which cells answer for which objects, and what they learn
    Assignment by_center;
    Targets targets;
    Centerness centerness;
    Tensor distances;  // (N, P, 4) as `Outputs`
  };
  [[nodiscard]] Assigned assign(Tape& tape, const Priors& cells, const GroundTruth& truth) const;

  FcosConfig config_;
  int classes_;
  kernels::FcosAssign by_center_;
  kernels::DistanceUnit unit_;
  Normalizer normalizer_;
  std::unique_ptr<ClassificationLoss> loss_;
  PriorGrid cells_;
  Tower cls_tower_, reg_tower_;
  ConvLayer cls_out_, reg_out_, centerness_out_;
  std::vector<ScaleLayer> scales_;  // one per level
};

}  // namespace gradlibra
