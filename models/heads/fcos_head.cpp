// SPDX-License-Identifier: MIT
#include "models/heads/fcos_head.h"

#include <stdexcept>
#include <utility>

#include "models/assigners/fcos_assigner.h"
#include "models/rank_sums.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

// MMDetection adds it to what an averaged loss is divided by: it shows where few cells, far from the centre, are all
// that is positive.
constexpr double kFloatEpsilon = 1.1920928955078125e-7;

// Which reach of an object belongs to which level: up to the first bound to the first, above the last to the last.
kernels::FcosAssign assignment_of(const FcosConfig& config, const std::vector<int>& strides) {
  const auto levels = static_cast<int>(strides.size());
  if (levels > kernels::kMaxFcosLevels || config.level_bounds.size() + 1 != strides.size())
    throw std::invalid_argument("model.fcos.level_bounds: " + std::to_string(config.level_bounds.size()) +
                                " bounds between the " + std::to_string(levels) +
                                " levels of model.neck.num_outs; there is one less than levels, of which at most " +
                                std::to_string(kernels::kMaxFcosLevels));
  kernels::FcosAssign assign{.levels = levels, .center_radius = static_cast<float>(config.center_radius)};
  for (int l = 0; l < levels; ++l) {
    const auto at = static_cast<size_t>(l);
    assign.strides[l] = static_cast<float>(strides[at]);
    assign.least[l] = l == 0 ? -1 : static_cast<float>(config.level_bounds[at - 1]);
    assign.most[l] = l + 1 == levels ? 1e8f : static_cast<float>(config.level_bounds[at]);
    if (!(assign.least[l] < assign.most[l]))
      throw std::invalid_argument("model.fcos.level_bounds: bounds are positive pixels and ascend");
  }
  if (!(config.center_radius >= 0)) throw std::invalid_argument("model.fcos.center_radius must not be negative");
  return assign;
}

}  // namespace

void FcosConfig::describe(ConfigVisitor& v) {
  v.field("feat_channels", feat_channels, "channels of the two towers", between(1, 65536));
  v.field("stacked_convs", stacked_convs, "3x3 convolutions per tower", between(0, 64));
  v.choice("norm", norm, {"none", "group"}, "normalisation in the towers");
  v.field("norm_groups", norm_groups, "groups of group norm; must divide feat_channels", between(1, 65536));
  v.field("conv_bias", conv_bias, "biases in the towers beside the norm; without a norm they are there anyway");
  v.field("dcn_on_last_conv", dcn_on_last_conv,
          "a modulated deformable convolution in place of the last one of both towers");
  v.field("level_bounds", level_bounds, "between levels: an object's largest distance from a cell, in pixels",
          above(0));
  v.field("center_radius", center_radius, "cells so many strides around an object's centre are its own; 0: all in it",
          at_least(0));
  v.field("norm_on_bbox", norm_on_bbox, "predict distances in strides, held at 0, instead of exponents");
  v.field("centerness_on_reg", centerness_on_reg, "centerness from the tower of the boxes, not of the classes");
  v.choice("box_loss", box_loss, {"iou", "giou"}, "loss of boxes: -ln IoU, or 1 - generalised IoU");
  v.field("box_loss_weight", box_loss_weight, "factor on the box loss", at_least(0));
  v.field("centerness_loss_weight", centerness_loss_weight, "factor on the centerness loss", at_least(0));
}

FcosHead::FcosHead(ParameterStore& store, const FcosConfig& config, const Pyramid& pyramid,
                   std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer)
    : config_(config),
      classes_(classes),
      by_center_(assignment_of(config, pyramid.strides)),
      unit_(config.norm_on_bbox ? kernels::DistanceUnit::stride : kernels::DistanceUnit::pixel),
      normalizer_(normalizer),
      loss_(std::move(loss)),
      cells_(pyramid.strides, 1, PriorGrid::Place::center) {
  const int features = config.feat_channels;
  if (config.dcn_on_last_conv && config.stacked_convs < 1)
    throw std::invalid_argument("model.fcos.dcn_on_last_conv: model.fcos.stacked_convs is 0, there is no last one");
  check_groups("model.fcos", config.norm, config.norm_groups, "feat_channels", features);
  const Tower::Options tower{.count = config.stacked_convs,
                             .norm = config.norm,
                             .norm_groups = config.norm_groups,
                             .bias_beside_norm = config.conv_bias,
                             .modulated_last = config.dcn_on_last_conv};
  cls_tower_ = Tower(store, "bbox_head.cls_convs", pyramid.channels, features, tower);
  reg_tower_ = Tower(store, "bbox_head.reg_convs", pyramid.channels, features, tower);
  cls_out_ = ConvLayer(store, "bbox_head.conv_cls", features, loss_->channels(), classifier_convolution(3, *loss_));
  reg_out_ = ConvLayer(store, "bbox_head.conv_reg", features, 4, head_convolution(3));
  centerness_out_ = ConvLayer(store, "bbox_head.conv_centerness", features, 1, head_convolution(3));
  scales_ = level_scales(store, pyramid.strides.size());
}

FcosHead::Outputs FcosHead::forward(Tape& tape, std::span<const Var> levels) const {
  const Range range("head");
  std::vector<Var> logits, distances, centerness;
  tape.in_branches(static_cast<int>(levels.size()), [&](int level) {
    const auto l = static_cast<size_t>(level);
    const Var cls = cls_tower_(tape, levels[l]), reg = reg_tower_(tape, levels[l]);
    // Positive by e^v, or held at 0 and learned in strides.
    const auto positive = config_.norm_on_bbox ? kernels::ScaledActivation::clamp : kernels::ScaledActivation::exp;
    logits.push_back(ops::to_float(tape, cls_out_(tape, cls)));
    distances.push_back(scales_[l](tape, ops::to_float(tape, reg_out_(tape, reg)), positive));
    centerness.push_back(ops::to_float(tape, centerness_out_(tape, config_.centerness_on_reg ? reg : cls)));
    const std::string prefix = "bbox_head.level" + std::to_string(l) + ".";
    tape.note(prefix + "cls_out", logits.back());
    tape.note(prefix + "distances", distances.back());
    tape.note(prefix + "centerness", centerness.back());
  });
  return {ops::concat_levels(tape, logits), ops::concat_levels(tape, distances), ops::concat_levels(tape, centerness)};
}

FcosHead::Assigned FcosHead::assign(Tape& tape, const Priors& cells, const GroundTruth& truth) const {
  // Cells in the padding of a batch are background like others: MMDetection's FCOS has no flags for them.
  Assignment by_center = assign_fcos(tape, cells, truth, by_center_);
  Targets targets = gather_targets(tape, by_center, truth, classes_);
  Centerness centerness = centerness_targets(tape, cells, targets);
  Tensor distances = tape.context().empty(targets.boxes.shape());
  tape.run([&](auto& device) {
    kernels::encode_distances(device, targets.boxes.view(), targets.box_weights.view(), cells.points.view(), unit_,
                              distances.view());
  });
  tape.note("targets.assigned", by_center.matched);
  tape.note("targets.labels", targets.labels);
  tape.note("targets.centerness", centerness.targets);
  tape.note("targets.distances", distances);
  return {std::move(by_center), std::move(targets), std::move(centerness), std::move(distances)};
}

std::vector<LossTerm> FcosHead::loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                     Communicator& ranks) {
  const Priors& cells = cells_(tape, levels);
  const Outputs out = forward(tape, levels);

  auto [by_center, targets, centerness, distances] = profiled("assign", [&] { return assign(tape, cells, truth); });
  const Rows rows{out.logits, targets.labels, targets.class_weights, ranks.rank()};
  Tensor before = loss_->before(tape, rows);
  sum_over_ranks(tape, ranks, {&by_center.counts, &centerness.sum, &before});
  const Tensor class_divisor = normalizer(tape, by_center, normalizer_, ranks.world_size());
  const Tensor positives = normalizer(tape, by_center, Normalizer::num_pos, ranks.world_size());
  const Tensor box_divisor = sum_at_least(tape, centerness.sum, ranks.world_size(), 1e-6, kFloatEpsilon);
  tape.note("targets.class_normalizer", class_divisor);
  tape.note("targets.box_normalizer", box_divisor);

  // A box counts by how central its cell is; overlaps need no more than the distances from that cell.
  const kernels::IouLoss box_loss{.mode = config_.box_loss == "giou" ? kernels::IouMode::giou : kernels::IouMode::log,
                                  .form = kernels::BoxForm::distances};
  const Range range("loss");
  std::vector<LossTerm> terms;
  terms.push_back({"loss_cls", loss_->loss(tape, rows, class_divisor, {before, ranks.world_size()})});
  terms.push_back({"loss_bbox", ops::iou_loss(tape, out.distances, distances, centerness.targets, box_loss,
                                              config_.box_loss_weight, box_divisor)});
  terms.push_back(
      {"loss_centerness", ops::binary_cross_entropy(tape, out.centerness, centerness.targets, targets.box_weights,
                                                    config_.centerness_loss_weight, positives)});
  return terms;
}

Predictions FcosHead::predict(Tape& tape, std::span<const Var> levels) {
  const Priors& cells = cells_(tape, levels);
  const Outputs out = forward(tape, levels);
  Predictions found{tape.make(out.distances.shape(), false), loss_->scores(tape, out.logits),
                    centerness_factors(tape, out.centerness), cells.level_rows};
  tape.run([&](auto& device) {
    kernels::decode_distances(device, out.distances.view(), cells.points.view(), unit_, found.boxes.out());
  });
  return found;
}

}  // namespace gradlibra
