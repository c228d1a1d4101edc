// SPDX-License-Identifier: MIT
// The YOLOF head (arXiv:2103.09460): one level, five anchors per cell, uniform matching of anchors with objects, and an
// objectness that nobody labels.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/boxes/delta_boxes.h"
#include "kernels/boxes/uniform_assign.h"
#include "models/anchors.h"
#include "models/assigners/assignment.h"
#include "models/heads/head.h"
#include "models/heads/yolof_config.h"
#include "models/heads/yolof_ops.h"
#include "models/layers.h"
#include "models/losses/classification_loss.h"
#include "models/pyramid.h"

namespace gradlibra {

class YolofHead final : public Head {
 public:
  // Parameters are named as MMDetection's, "bbox_head." in front. std::invalid_argument names the configuration key
  // that does not fit.
  YolofHead(ParameterStore& store, const YolofConfig& config, const Pyramid& pyramid,
            std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer);

  // loss_cls, loss_bbox. Notes, A anchors per cell and P = H * W * A:
  //   bbox_head.{cls_feat,reg_feat}     (N, H, W, channels)
  //   bbox_head.{bbox_pred,object_pred} (N, H, W, 4 A), (N, H, W, A)
  //   bbox_head.logits                  (N, P, channels), objectness joined
  //   bbox_head.boxes                   (N, P, 4) pixels
  //   targets.assigned                  (N, P), as Assignment::matched
  //   targets.pairs                     as UniformMatch::pairs
  //   targets.{box,class}_normalizer
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                           Communicator& ranks) override;
  [[nodiscard]] Predictions predict(Tape& tape, std::span<const Var> levels) override;
  [[nodiscard]] Classifier classifier() const override { return {cls_score_.weight, loss_.get()}; }

 private:
  struct Outputs {
    Var logits;  // (N, P, channels)
    Var boxes;   // (N, P, 4)
  };
  [[nodiscard]] Outputs forward(Tape& tape, Var features, const Anchors& anchors) const;
  // Objects choose the anchors nearest to them, and those whose `boxes` have come nearest.
  struct Assigned {
    Assignment matched;
    Targets targets;
    ops::PairedBoxes pairs;
  };
  [[nodiscard]] Assigned assign(Tape& tape, Var boxes, const Anchors& anchors, const GroundTruth& truth) const;

  YolofConfig config_;
  int classes_;
  kernels::DeltaCoder coder_;
  kernels::UniformAssign matching_;
  Normalizer normalizer_, box_normalizer_;
  std::unique_ptr<ClassificationLoss> loss_;
  AnchorGrid anchors_;
  std::vector<ConvBatchNorm> cls_subnet_, bbox_subnet_;
  ConvLayer cls_score_, bbox_pred_, object_pred_;
};

}  // namespace gradlibra
