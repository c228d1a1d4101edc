// SPDX-License-Identifier: MIT
#include "models/heads/atss_head.h"

#include <stdexcept>
#include <utility>

#include "models/assigners/atss_assigner.h"
#include "models/assigners/valid_cells.h"
#include "models/heads/anchor_ops.h"
#include "models/rank_sums.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

// target_stds of MMDetection's configuration of ATSS.
constexpr kernels::DeltaCoder kCoder{.std_centre = 0.1f, .std_size = 0.2f};

void check(const AtssConfig& config, const Pyramid& pyramid) {
  if (!(config.anchor_scale > 0)) throw std::invalid_argument("model.atss.anchor_scale must be positive");
  if (config.topk < 1 || config.topk > 16) throw std::invalid_argument("model.atss.topk must be 1 to 16");
  if (pyramid.strides.size() > kernels::kMaxAtssLevels)
    throw std::invalid_argument("model.neck.num_outs: atss takes at most " + std::to_string(kernels::kMaxAtssLevels) +
                                " levels");
}

}  // namespace

void AtssConfig::describe(ConfigVisitor& v) {
  v.field("feat_channels", feat_channels, "channels of the two towers", between(1, 65536));
  v.field("stacked_convs", stacked_convs, "3x3 convolutions per tower", between(0, 64));
  v.choice("norm", norm, {"none", "group"}, "normalisation in the towers");
  v.field("norm_groups", norm_groups, "groups of group norm; must divide feat_channels", between(1, 65536));
  v.field("anchor_scale", anchor_scale, "side of the anchors, in strides of the level", above(0));
  v.field("topk", topk, "nearest anchors per object and level that are candidates, 1 to 16", between(1, 16));
  v.field("box_loss_weight", box_loss_weight, "factor on the GIoU loss", at_least(0));
  v.field("centerness_loss_weight", centerness_loss_weight, "factor on the centerness loss", at_least(0));
}

AtssHead::AtssHead(ParameterStore& store, const AtssConfig& config, const Pyramid& pyramid,
                   std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer)
    : config_(config),
      classes_(classes),
      selection_{.topk = config.topk},
      normalizer_(normalizer),
      centerness_normalizer_(of_positives(normalizer)),
      loss_(std::move(loss)),
      anchors_(pyramid.strides, {config.anchor_scale}, {1}) {
  check(config, pyramid);
  const int features = config.feat_channels;
  check_groups("model.atss", config.norm, config.norm_groups, "feat_channels", config.feat_channels);
  const Tower::Options tower{.count = config.stacked_convs, .norm = config.norm, .norm_groups = config.norm_groups};
  cls_tower_ = Tower(store, "bbox_head.cls_convs", pyramid.channels, features, tower);
  reg_tower_ = Tower(store, "bbox_head.reg_convs", pyramid.channels, features, tower);
  cls_out_ = ConvLayer(store, "bbox_head.atss_cls", features, loss_->channels(), classifier_convolution(3, *loss_));
  reg_out_ = ConvLayer(store, "bbox_head.atss_reg", features, 4, head_convolution(3));
  centerness_out_ = ConvLayer(store, "bbox_head.atss_centerness", features, 1, head_convolution(3));
  scales_ = level_scales(store, pyramid.strides.size());
}

AtssHead::Outputs AtssHead::forward(Tape& tape, std::span<const Var> levels, const Anchors& anchors) const {
  const Range range("head");
  std::vector<Var> logits, deltas, centerness;
  tape.in_branches(static_cast<int>(levels.size()), [&](int level) {
    const auto l = static_cast<size_t>(level);
    const Var cls = cls_tower_(tape, levels[l]), reg = reg_tower_(tape, levels[l]);
    logits.push_back(ops::to_float(tape, cls_out_(tape, cls)));
    deltas.push_back(scales_[l](tape, ops::to_float(tape, reg_out_(tape, reg)), kernels::ScaledActivation::identity));
    centerness.push_back(ops::to_float(tape, centerness_out_(tape, reg)));
    const std::string prefix = "bbox_head.level" + std::to_string(l) + ".";
    tape.note(prefix + "cls_out", logits.back());
    tape.note(prefix + "deltas", deltas.back());
    tape.note(prefix + "centerness", centerness.back());
  });
  const Var boxes = ops::decode_deltas(tape, ops::concat_levels(tape, deltas), anchors, kCoder);
  tape.note("bbox_head.boxes", boxes);
  return {ops::concat_levels(tape, logits), boxes, ops::concat_levels(tape, centerness)};
}

AtssHead::Assigned AtssHead::assign(Tape& tape, const Anchors& anchors, const GroundTruth& truth) const {
  const Tensor valid = valid_cells(tape, anchors.priors, truth);
  Assignment selected = assign_atss(tape, anchors, truth, valid, selection_);
  Targets targets = gather_targets(tape, selected, truth, classes_);
  Centerness centerness = centerness_targets(tape, anchors.priors, targets);
  tape.note("targets.assigned", selected.matched);
  tape.note("targets.centerness", centerness.targets);
  return {std::move(selected), std::move(targets), std::move(centerness)};
}

std::vector<LossTerm> AtssHead::loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                     Communicator& ranks) {
  const Anchors& anchors = anchors_(tape, levels);
  const Outputs out = forward(tape, levels, anchors);

  auto [selected, targets, centerness] = profiled("assign", [&] { return assign(tape, anchors, truth); });
  const Rows rows{out.logits, targets.labels, targets.class_weights, ranks.rank()};
  Tensor before = loss_->before(tape, rows);
  sum_over_ranks(tape, ranks, {&selected.counts, &centerness.sum, &before});
  const Tensor class_divisor = normalizer(tape, selected, normalizer_, ranks.world_size());
  const Tensor centerness_divisor = normalizer(tape, selected, centerness_normalizer_, ranks.world_size());
  const Tensor box_divisor = sum_at_least(tape, centerness.sum, ranks.world_size(), 1);
  tape.note("targets.class_normalizer", class_divisor);
  tape.note("targets.box_normalizer", box_divisor);

  // A box counts by how central its anchor lies in the object.
  const Range range("loss");
  std::vector<LossTerm> terms;
  terms.push_back({"loss_cls", loss_->loss(tape, rows, class_divisor, {before, ranks.world_size()})});
  terms.push_back({"loss_bbox", ops::iou_loss(tape, out.boxes, targets.boxes, centerness.targets,
                                              {.mode = kernels::IouMode::giou}, config_.box_loss_weight, box_divisor)});
  terms.push_back(
      {"loss_centerness", ops::binary_cross_entropy(tape, out.centerness, centerness.targets, targets.box_weights,
                                                    config_.centerness_loss_weight, centerness_divisor)});
  return terms;
}

Predictions AtssHead::predict(Tape& tape, std::span<const Var> levels) {
  const Anchors& anchors = anchors_(tape, levels);
  const Outputs out = forward(tape, levels, anchors);
  return {.boxes = out.boxes,
          .scores = loss_->scores(tape, out.logits),
          .factors = centerness_factors(tape, out.centerness),
          .level_rows = anchors.priors.level_rows};
}

}  // namespace gradlibra
