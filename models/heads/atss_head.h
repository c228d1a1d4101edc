// SPDX-License-Identifier: MIT
// The ATSS head (arXiv:1912.02424): two towers shared by all pyramid levels, one square anchor per cell, positives by
// the statistics of the overlaps around each object, and a centerness that weights boxes and scores.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/boxes/atss_assign.h"
#include "kernels/boxes/delta_boxes.h"
#include "models/anchors.h"
#include "models/assigners/assignment.h"
#include "models/assigners/centerness.h"
#include "models/heads/atss_config.h"
#include "models/heads/head.h"
#include "models/heads/tower.h"
#include "models/layers.h"
#include "models/losses/classification_loss.h"
#include "models/pyramid.h"

namespace gradlibra {

class AtssHead final : public Head {
 public:
  // Parameters are named as MMDetection's, "bbox_head." in front. std::invalid_argument names the configuration key
  // that does not fit.
  AtssHead(ParameterStore& store, const AtssConfig& config, const Pyramid& pyramid,
           std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer);

  // loss_cls, loss_bbox, loss_centerness. Notes
  //   bbox_head.level<l>.{cls_out,deltas,centerness}  per level (N, H_l, W_l, channels), 4 and 1; deltas are scaled
  //   bbox_head.boxes                                 (N, P, 4) pixels
  //   targets.assigned                                (N, P), as Assignment::matched
  //   targets.centerness                              (N, P)
  //   targets.{class,box}_normalizer
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                           Communicator& ranks) override;
  [[nodiscard]] Predictions predict(Tape& tape, std::span<const Var> levels) override;
  [[nodiscard]] Classifier classifier() const override { return {cls_out_.weight, loss_.get()}; }

 private:
  struct Outputs {   // of all levels
    Var logits;      // (N, P, channels)
    Var boxes;       // (N, P, 4)
    Var centerness;  // (N, P, 1)
  };
  [[nodiscard]] Outputs forward(Tape& tape, std::span<const Var> levels, const Anchors& anchors) const;
  struct Assigned {  // which anchors answer for which objects, and what they learn
    Assignment selected;
    Targets targets;
    Centerness centerness;
  };
  [[nodiscard]] Assigned assign(Tape& tape, const Anchors& anchors, const GroundTruth& truth) const;

  AtssConfig config_;
  int classes_;
  kernels::AtssAssign selection_;
  Normalizer normalizer_, centerness_normalizer_;
  std::unique_ptr<ClassificationLoss> loss_;
  AnchorGrid anchors_;
  Tower cls_tower_, reg_tower_;
  ConvLayer cls_out_, reg_out_, centerness_out_;
  std::vector<ScaleLayer> scales_;  // one per level
};

}  // namespace gradlibra
