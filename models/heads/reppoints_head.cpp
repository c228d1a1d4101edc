// SPDX-License-Identifier: MIT
#include "models/heads/reppoints_head.h"

#include <cmath>
#include <stdexcept>
#include <utility>

#include "kernels/boxes/nearest_priors.h"
#include "models/assigners/max_iou_assigner.h"
#include "models/assigners/point_assigner.h"
#include "models/assigners/valid_cells.h"
#include "models/heads/reppoints_ops.h"
#include "models/heads/tower.h"
#include "models/rank_sums.h"
#include "runtime/autograd/ops/loss.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

using ops::Activation;

kernels::BoxTransform parse_transform(const std::string& name) {
  if (name == "moment") return kernels::BoxTransform::moment;
  if (name == "minmax") return kernels::BoxTransform::minmax;
  return kernels::BoxTransform::partial_minmax;
}

}  // namespace

void RepPointsConfig::describe(ConfigVisitor& v) {
  v.field("feat_channels", feat_channels, "channels of the two towers", between(1, 65536));
  v.field("point_channels", point_channels, "channels of the point branches", between(1, 65536));
  v.field("stacked_convs", stacked_convs, "3x3 convolutions per tower", between(0, 64));
  v.field("num_points", num_points, "points per object; an odd square", between(1, 1089));
  v.choice("norm", norm, {"none", "group"}, "normalisation in the towers");
  v.field("norm_groups", norm_groups, "groups of group norm; must divide feat_channels", between(1, 65536));
  v.choice("transform", transform, {"moment", "minmax", "partial_minmax"}, "point set to box");
  v.field("use_grid_points", use_grid_points,
          "regress boxes and sample on a regular grid in them, in place of free points; needs transform minmax");
  v.field("center_init", center_init,
          "points start at the cell's own; false: on a grid of point_base_scale strides (as use_grid_points does)");
  v.field("gradient_mul", gradient_mul,
          "factor on the gradient from the deformable convolutions into the initial points", any_number());
  v.field("moment_mul", moment_mul, "factor on the gradient of the moment transform's exponents", any_number());
  v.field("point_base_scale", point_base_scale, "an object of this many strides belongs to a level", above(0));
  v.choice("deform_init", deform_init, {"uniform", "normal"}, "initialisation of the deformable convolutions");
  v.field("init_loss_weight", init_loss_weight, "weight of the first stage's box loss", at_least(0));
  v.field("refine_loss_weight", refine_loss_weight, "weight of the second stage's box loss", at_least(0));
  v.field("smooth_l1_beta", smooth_l1_beta, "where smooth L1 turns from square to linear, in units of 4 strides",
          above(0));
  v.choice("init_assigner", init_assigner, {"point", "max_iou"},
           "first stage: by the nearest points, or by overlap with squares of point_base_scale strides, under the "
           "second stage's refine_*");
  v.field("init_pos_num", init_pos_num, "first stage: nearest points per object that are positive",
          between(1, kernels::kMaxNearest));
  v.field("refine_pos_iou", refine_pos_iou, "second stage: overlap from which a box is positive", between(0, 1));
  v.field("refine_neg_iou", refine_neg_iou, "second stage: overlap below which a box is negative; ignored between",
          between(0, 1));
  v.field("refine_min_pos_iou", refine_min_pos_iou,
          "second stage: smallest overlap at which an object's best box is its own", between(0, 1));
}

RepPointsHead::RepPointsHead(ParameterStore& store, const RepPointsConfig& config, const Pyramid& pyramid,
                             std::unique_ptr<ClassificationLoss> loss, int classes, Normalizer normalizer)
    : config_(config),
      classes_(classes),
      transform_(parse_transform(config.transform)),
      by_point_{.scale = static_cast<float>(config.point_base_scale), .pos_num = config.init_pos_num},
      by_iou_{.pos_iou = static_cast<float>(config.refine_pos_iou),
              .neg_iou = static_cast<float>(config.refine_neg_iou),
              .min_pos_iou = static_cast<float>(config.refine_min_pos_iou)},
      normalizer_(normalizer),
      box_normalizer_(of_positives(normalizer)),
      loss_(std::move(loss)),
      priors_(pyramid.strides, config.point_base_scale),
      squares_(pyramid.strides, {config.point_base_scale}, {1}) {
  const int side = static_cast<int>(std::lround(std::sqrt(config.num_points)));
  if (side < 1 || side % 2 == 0 || side * side != config.num_points)
    throw std::invalid_argument("model.head.num_points: " + std::to_string(config.num_points) +
                                " is not an odd square (9, 25, ..)");
  if (config.use_grid_points && transform_ != kernels::BoxTransform::minmax)
    throw std::invalid_argument("model.head.use_grid_points: model.head.transform must be minmax, is " +
                                config.transform);
  if ((config.use_grid_points || !config.center_init) && side < 3)
    throw std::invalid_argument("model.head.num_points: a grid (use_grid_points, center_init: false) has at least 9");
  side_ = side;
  std::vector<float> grid, minus_start;
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) grid.insert(grid.end(), {float(y - side / 2), float(x - side / 2)});
  grid_ = store.context().upload<float>(grid, {2 * config.num_points});
  if (!config.center_init && !config.use_grid_points) {
    for (const float g : grid) minus_start.push_back(-g / float(side / 2) * float(config.point_base_scale / 2));
    minus_start_ = store.context().upload<float>(minus_start, {2 * config.num_points});
  }

  if (config.num_points < 4 && config.transform != "minmax")
    throw std::invalid_argument("model.head.num_points: of one point only model.head.transform=minmax makes a box");
  check_groups("model.head", config.norm, config.norm_groups, "feat_channels", config.feat_channels);
  const int features = config.feat_channels, points = config.point_channels;
  const int offsets = config.use_grid_points ? 4 : 2 * config.num_points;  // a box, or y and x of every point
  if (transform_ == kernels::BoxTransform::moment) moment_ = &store.add("bbox_head.moment_transfer", {2}, {});
  for (int i = 0; i < config.stacked_convs; ++i) {
    const int in = i == 0 ? pyramid.channels : features;
    const std::string index = std::to_string(i);
    cls_convs_.emplace_back(store, "bbox_head.cls_convs." + index, in, features, head_convolution(3), config.norm,
                            config.norm_groups);
    reg_convs_.emplace_back(store, "bbox_head.reg_convs." + index, in, features, head_convolution(3), config.norm,
                            config.norm_groups);
  }

  // MMDetection's initialiser passes over the deformable layers, whose own default is uniform; checkpoints in use grew
  // from that.
  ConvLayer::Options deformable = head_convolution(side);
  deformable.bias = false;
  if (config.deform_init == "uniform")
    deformable.weight_init = {Init::Kind::uniform, std::sqrt(6.0 / (config.num_points * features))};

  cls_conv_ = ConvLayer(store, "bbox_head.reppoints_cls_conv", features, points, deformable);
  cls_out_ =
      ConvLayer(store, "bbox_head.reppoints_cls_out", points, loss_->channels(), classifier_convolution(1, *loss_));
  init_conv_ = ConvLayer(store, "bbox_head.reppoints_pts_init_conv", features, points, head_convolution(3));
  init_out_ = ConvLayer(store, "bbox_head.reppoints_pts_init_out", points, offsets, head_convolution(1));
  refine_conv_ = ConvLayer(store, "bbox_head.reppoints_pts_refine_conv", features, points, deformable);
  refine_out_ = ConvLayer(store, "bbox_head.reppoints_pts_refine_out", points, offsets, head_convolution(1));
}

RepPointsHead::Outputs RepPointsHead::forward(Tape& tape, std::span<const Var> levels) const {
  const Range range("head");
  Outputs outputs;
  tape.in_branches(static_cast<int>(levels.size()), [&](int level) {
    const auto l = static_cast<size_t>(level);
    const std::string prefix = "bbox_head.level" + std::to_string(l) + ".";
    Var cls = levels[l], reg = levels[l];
    for (const ConvModule& conv : cls_convs_) cls = conv(tape, cls, Activation::relu);
    for (const ConvModule& conv : reg_convs_) reg = conv(tape, reg, Activation::relu);
    const ops::GridPoints first =
        points(tape, ops::to_float(tape, init_out_(tape, init_conv_(tape, reg, Activation::relu))), {});
    const Var init = first.points;
    // The deformable kernel adds its own grid; without it, tap k samples at the predicted point k.
    const Var taps = ops::subtract_row(tape, init, grid_, static_cast<float>(config_.gradient_mul));
    const ops::SamplePoints samples = ops::sample_points();
    const Var logits =
        ops::to_float(tape, cls_out_(tape, cls_conv_.deformable(tape, cls, taps, Activation::relu, samples)));
    const Var refined =
        ops::to_float(tape, refine_out_(tape, refine_conv_.deformable(tape, reg, taps, Activation::relu, samples)));
    const Var refine = points(tape, refined, first).points;
    tape.note(prefix + "cls_feat", cls);
    tape.note(prefix + "reg_feat", reg);
    tape.note(prefix + "pts_init", init);
    tape.note(prefix + "cls_out", logits);
    tape.note(prefix + "pts_refine", refine);
    outputs.logits.push_back(logits);
    outputs.init_offsets.push_back(init);
    outputs.refine_offsets.push_back(refine);
  });
  return outputs;
}

ops::GridPoints RepPointsHead::points(Tape& tape, Var output, const ops::GridPoints& before) const {
  const auto half = static_cast<float>(config_.point_base_scale / 2);
  if (config_.use_grid_points) return ops::grid_points(tape, output, before.boxes, half, side_);
  if (before.points) return {ops::add_detached(tape, output, before.points), Var()};
  if (config_.center_init) return {output, Var()};
  return {ops::subtract_row(tape, output, minus_start_, 1), Var()};
}

Var RepPointsHead::boxes(Tape& tape, Var offsets, const Priors& cells) const {
  const Var moment(moment_ == nullptr ? nullptr : &moment_->node);
  return ops::points_to_boxes(tape, offsets, cells.points, moment, transform_, static_cast<float>(config_.moment_mul));
}

Assignment RepPointsHead::assign_first(Tape& tape, std::span<const Var> levels, const Priors& cells,
                                       const GroundTruth& truth, const Tensor& valid) {
  if (config_.init_assigner == "point") return assign_points(tape, cells, truth, valid, by_point_);
  const Tensor& squares = squares_(tape, levels).boxes;
  const int64_t N = levels[0].dim(0), P = squares.dim(0);
  const Var boxes = tape.make({N, P, 4}, false);
  for (int64_t n = 0; n < N && tape.computes(); ++n) {
    Tensor image = Tensor::borrow(boxes.out().data() + n * squares.size(), squares.shape());
    tape.context().copy(squares, image);
  }
  return assign_max_iou(tape, boxes, truth, valid, by_iou_);
}

std::pair<RepPointsHead::Stage, RepPointsHead::Stage> RepPointsHead::assign(Tape& tape, std::span<const Var> levels,
                                                                            const Priors& cells, Var init_boxes,
                                                                            const GroundTruth& truth) {
  const Tensor valid = valid_cells(tape, cells, truth);
  Stage init{assign_first(tape, levels, cells, truth, valid), {}};
  Stage refine{assign_max_iou(tape, init_boxes, truth, valid, by_iou_), {}};
  init.targets = box_targets(tape, init.assigned, truth);
  refine.targets = gather_targets(tape, refine.assigned, truth, classes_);
  tape.note("targets.init_assigned", init.assigned.matched);
  tape.note("targets.refine_assigned", refine.assigned.matched);
  return {std::move(init), std::move(refine)};
}

Tensor RepPointsHead::box_loss(Tape& tape, Var boxes, const Targets& targets, const Priors& cells, double weight,
                               const Tensor& divisor) const {
  return ops::smooth_l1(tape, boxes, targets.boxes, targets.box_weights, cells.box_scales,
                        static_cast<float>(config_.smooth_l1_beta), weight, divisor);
}

std::vector<LossTerm> RepPointsHead::loss(Tape& tape, std::span<const Var> levels, const GroundTruth& truth,
                                          Communicator& ranks) {
  const Priors& cells = priors_(tape, levels);
  const Outputs outputs = forward(tape, levels);
  const Var logits = ops::concat_levels(tape, outputs.logits);
  const Var init_boxes = boxes(tape, ops::concat_levels(tape, outputs.init_offsets), cells);
  const Var refine_boxes = boxes(tape, ops::concat_levels(tape, outputs.refine_offsets), cells);
  tape.note("bbox_head.init_boxes", init_boxes);
  tape.note("bbox_head.refine_boxes", refine_boxes);

  auto [init, refine] = profiled("assign", [&] { return assign(tape, levels, cells, init_boxes, truth); });
  const Rows rows{logits, refine.targets.labels, refine.targets.class_weights, ranks.rank()};
  Tensor before = loss_->before(tape, rows);
  sum_over_ranks(tape, ranks, {&init.assigned.counts, &refine.assigned.counts, &before});
  const Tensor init_divisor = normalizer(tape, init.assigned, box_normalizer_, ranks.world_size());
  const Tensor refine_divisor = normalizer(tape, refine.assigned, box_normalizer_, ranks.world_size());
  const Tensor class_divisor = normalizer(tape, refine.assigned, normalizer_, ranks.world_size());
  tape.note("targets.init_normalizer", init_divisor);
  tape.note("targets.refine_normalizer", class_divisor);

  const Range range("loss");
  std::vector<LossTerm> terms;
  terms.push_back({"loss_cls", loss_->loss(tape, rows, class_divisor, {before, ranks.world_size()})});
  terms.push_back(
      {"loss_pts_init", box_loss(tape, init_boxes, init.targets, cells, config_.init_loss_weight, init_divisor)});
  terms.push_back({"loss_pts_refine",
                   box_loss(tape, refine_boxes, refine.targets, cells, config_.refine_loss_weight, refine_divisor)});
  return terms;
}

Predictions RepPointsHead::predict(Tape& tape, std::span<const Var> levels) {
  const Priors& cells = priors_(tape, levels);
  const Outputs outputs = forward(tape, levels);
  const Var logits = ops::concat_levels(tape, outputs.logits);
  const Var refine = ops::concat_levels(tape, outputs.refine_offsets);
  return {boxes(tape, refine, cells), loss_->scores(tape, logits), {}, cells.level_rows};
}

}  // namespace gradlibra
