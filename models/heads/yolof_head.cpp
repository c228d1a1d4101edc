// SPDX-License-Identifier: MIT
#include "models/heads/yolof_head.h"

#include <stdexcept>
#include <utility>

#include "kernels/boxes/nearest_priors.h"
#include "models/assigners/uniform_assigner.h"
#include "models/assigners/valid_cells.h"
#include "models/heads/anchor_ops.h"
#include "models/heads/tower.h"
#include "models/rank_sums.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

void check(const YolofConfig& config, const Pyramid& pyramid) {
  const auto require_that = [](bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(std::string("model.yolof.") + message);
  };
  if (pyramid.strides.size() != 1)
    throw std::invalid_argument("model.detector: yolof works on one level, the neck has " +
                                std::to_string(pyramid.strides.size()));
  require_that(config.cls_convs >= 0 && config.reg_convs >= 0, "cls_convs and reg_convs must not be negative");
  require_that(!config.anchor_scales.empty() && !config.anchor_ratios.empty(),
               "anchor_scales and anchor_ratios need a value each");
  for (const double scale : config.anchor_scales) require_that(scale > 0, "anchor_scales must be positive");
  for (const double ratio : config.anchor_ratios) require_that(ratio > 0, "anchor_ratios must be positive");
  require_that(config.centre_clamp >= 0, "centre_clamp must not be negative");
  require_that(config.match_times >= 1 && config.match_times <= kernels::kMaxNearest, "match_times must be 1 to 16");
}

}  // namespace

void YolofConfig::describe(ConfigVisitor& v) {
  v.section("encoder", encoder, "the neck: dilated encoder on C5");
  v.field("cls_convs", cls_convs, "3x3 convolutions of the classification branch", between(0, 64));
  v.field("reg_convs", reg_convs, "3x3 convolutions of the box branch", between(0, 64));
  v.field("anchor_scales", anchor_scales, "sides of the anchors, in strides of the level (32 pixels)", above(0));
  v.field("anchor_ratios", anchor_ratios, "height / width of the anchors", above(0));
  v.field("centre_clamp", centre_clamp, "pixels by which a box's centre may leave its anchor's, per axis; 0: any",
          at_least(0));
  v.field("match_times", match_times, "nearest anchors, and nearest predictions, that an object is matched with",
          between(1, kernels::kMaxNearest));
  v.field("pos_ignore_iou", pos_ignore_iou, "a matched anchor that overlaps its object less is ignored", between(0, 1));
  v.field("neg_ignore_iou", neg_ignore_iou, "an unmatched anchor whose prediction overlaps an object more is ignored",
          between(0, 1));
  v.field("box_loss_weight", box_loss_weight, "weight of the GIoU loss", at_least(0));
}

YolofHead::YolofHead(ParameterStore& store, const YolofConfig& config, const Pyramid& pyramid,
                     std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer)
    : config_(config),
      classes_(classes),
      coder_{.centre_clamp = static_cast<float>(config.centre_clamp)},
      matching_{.match_times = config.match_times,
                .pos_ignore_iou = static_cast<float>(config.pos_ignore_iou),
                .neg_ignore_iou = static_cast<float>(config.neg_ignore_iou)},
      normalizer_(normalizer),
      box_normalizer_(of_positives(normalizer)),
      loss_(std::move(loss)),
      anchors_(pyramid.strides, config.anchor_scales, config.anchor_ratios) {
  check(config, pyramid);
  const int features = pyramid.channels, A = anchors_.per_cell();
  for (int i = 0; i < config.cls_convs; ++i)
    cls_subnet_.emplace_back(store, "bbox_head.cls_subnet." + std::to_string(i), features, features,
                             head_convolution(3));
  for (int i = 0; i < config.reg_convs; ++i)
    bbox_subnet_.emplace_back(store, "bbox_head.bbox_subnet." + std::to_string(i), features, features,
                              head_convolution(3));

  cls_score_ =
      ConvLayer(store, "bbox_head.cls_score", features, A * loss_->channels(), classifier_convolution(3, *loss_, A));
  bbox_pred_ = ConvLayer(store, "bbox_head.bbox_pred", features, A * 4, head_convolution(3));
  object_pred_ = ConvLayer(store, "bbox_head.object_pred", features, A, head_convolution(3));
}

YolofHead::Outputs YolofHead::forward(Tape& tape, Var features, const Anchors& anchors) const {
  const Range range("head");
  Var cls = features, reg = features;
  for (const ConvBatchNorm& conv : cls_subnet_) cls = conv(tape, cls);
  for (const ConvBatchNorm& conv : bbox_subnet_) reg = conv(tape, reg);
  const Var scores = ops::to_float(tape, cls_score_(tape, cls));
  const Var deltas = ops::to_float(tape, bbox_pred_(tape, reg));
  const Var objectness = ops::to_float(tape, object_pred_(tape, reg));
  // Whether an anchor holds anything is learned through the classes alone: the score of a class is the product of both.
  const Var logits = loss_->has_objectness() ? ops::anchor_rows(tape, scores, loss_->channels())
                                             : ops::implicit_objectness(tape, scores, objectness, loss_->channels());
  const Var boxes = ops::decode_deltas(tape, deltas, anchors, coder_);
  tape.note("bbox_head.cls_feat", cls);
  tape.note("bbox_head.reg_feat", reg);
  tape.note("bbox_head.bbox_pred", deltas);
  tape.note("bbox_head.object_pred", objectness);
  tape.note("bbox_head.logits", logits);
  tape.note("bbox_head.boxes", boxes);
  return {logits, boxes};
}

YolofHead::Assigned YolofHead::assign(Tape& tape, Var boxes, const Anchors& anchors, const GroundTruth& truth) const {
  const Tensor valid = valid_cells(tape, anchors.priors, truth);
  UniformMatch match = assign_uniform(tape, boxes, anchors, truth, valid, matching_);
  Targets targets = gather_targets(tape, match.assignment, truth, classes_);
  tape.note("targets.assigned", match.assignment.matched);
  tape.note("targets.pairs", match.pairs);
  // The box loss takes every pair, also those that share an anchor.
  ops::PairedBoxes pairs = ops::gather_pairs(tape, boxes, std::move(match.pairs), truth);
  return {std::move(match.assignment), std::move(targets), std::move(pairs)};
}

std::vector<LossTerm> YolofHead::loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                      Communicator& ranks) {
  const Anchors& anchors = anchors_(tape, levels);
  const Outputs outputs = forward(tape, levels[0], anchors);

  auto [matched, targets, pairs] = profiled("assign", [&] { return assign(tape, outputs.boxes, anchors, truth); });
  const Rows rows{outputs.logits, targets.labels, targets.class_weights, ranks.rank()};
  Tensor before = loss_->before(tape, rows);
  sum_over_ranks(tape, ranks, {&matched.counts, &before});
  const Tensor class_divisor = normalizer(tape, matched, normalizer_, ranks.world_size());
  const Tensor box_divisor = normalizer(tape, matched, box_normalizer_, ranks.world_size());
  tape.note("targets.class_normalizer", class_divisor);
  tape.note("targets.box_normalizer", box_divisor);

  const Range range("loss");
  std::vector<LossTerm> terms;
  terms.push_back({"loss_cls", loss_->loss(tape, rows, class_divisor, {before, ranks.world_size()})});
  terms.push_back({"loss_bbox", ops::iou_loss(tape, pairs.boxes, pairs.targets, pairs.weights,
                                              {.mode = kernels::IouMode::giou}, config_.box_loss_weight, box_divisor)});
  return terms;
}

Predictions YolofHead::predict(Tape& tape, std::span<const Var> levels) {
  const Anchors& anchors = anchors_(tape, levels);
  const Outputs outputs = forward(tape, levels[0], anchors);
  return {
      .boxes = outputs.boxes, .scores = loss_->scores(tape, outputs.logits), .level_rows = anchors.priors.level_rows};
}

}  // namespace gradlibra
