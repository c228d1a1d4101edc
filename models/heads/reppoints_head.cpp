// SPDX-License-Identifier: MIT
#include "models/heads/reppoints_head.h"

#include <cmath>
#include <stdexcept>

#include "kernels/assign.h"
#include "kernels/scalar.h"
#include "models/heads/select_detections.h"
#include "runtime/profiling.h"

namespace gradlibra {

namespace {

using ops::Activation;

kernels::BoxTransform parse_transform(const std::string& name) {
  if (name == "moment") return kernels::BoxTransform::moment;
  if (name == "minmax") return kernels::BoxTransform::minmax;
  return kernels::BoxTransform::partial_minmax;
}

// N(0, 0.01^2), bias 0 unless said otherwise.
ConvLayer::Options conv_options(int kernel) {
  return {.kernel = kernel, .shape = {.padding = kernel / 2}, .weight_init = {Init::Kind::normal, 0.01}};
}

}  // namespace

RepPointsHead::RepPointsHead(ParameterStore& store, const HeadConfig& config, const LossConfig& loss, int in_channels,
                             std::vector<int> strides, int classes)
    : config_(config),
      normalizer_(loss.normalizer),
      strides_(std::move(strides)),
      classes_(classes),
      transform_(parse_transform(config.transform)),
      loss_(make_classification_loss(loss)) {
  const int side = static_cast<int>(std::lround(std::sqrt(config.num_points)));
  if (side < 1 || side % 2 == 0 || side * side != config.num_points)
    throw std::invalid_argument("model.head.num_points: " + std::to_string(config.num_points) +
                                " is not an odd square (9, 25, ..)");
  std::vector<float> grid;
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) grid.insert(grid.end(), {float(y - side / 2), float(x - side / 2)});
  grid_ = store.context().upload<float>(grid, {2 * config.num_points});

  const int features = config.feat_channels, points = config.point_channels, offsets = 2 * config.num_points;
  if (transform_ == kernels::BoxTransform::moment) moment_ = &store.add("bbox_head.moment_transfer", {2}, {});
  for (int i = 0; i < config.stacked_convs; ++i) {
    const int in = i == 0 ? in_channels : features;
    const std::string index = std::to_string(i);
    cls_convs_.emplace_back(store, "bbox_head.cls_convs." + index, in, features, conv_options(3), config.norm,
                            config.norm_groups);
    reg_convs_.emplace_back(store, "bbox_head.reg_convs." + index, in, features, conv_options(3), config.norm,
                            config.norm_groups);
  }

  // MMDetection's initialiser passes over the deformable layers, whose own default is uniform; checkpoints in use grew from that.
  ConvLayer::Options deformable = conv_options(side);
  deformable.bias = false;
  if (config.deform_init == "uniform")
    deformable.weight_init = {Init::Kind::uniform, std::sqrt(6.0 / (config.num_points * features))};
  ConvLayer::Options classifier = conv_options(1);
  classifier.bias_init = loss_->bias_init(classes).front();

  cls_conv_ = ConvLayer(store, "bbox_head.reppoints_cls_conv", features, points, deformable);
  cls_out_ = ConvLayer(store, "bbox_head.reppoints_cls_out", points, loss_->channels(classes), classifier);
  init_conv_ = ConvLayer(store, "bbox_head.reppoints_pts_init_conv", features, points, conv_options(3));
  init_out_ = ConvLayer(store, "bbox_head.reppoints_pts_init_out", points, offsets, conv_options(1));
  refine_conv_ = ConvLayer(store, "bbox_head.reppoints_pts_refine_conv", features, points, deformable);
  refine_out_ = ConvLayer(store, "bbox_head.reppoints_pts_refine_out", points, offsets, conv_options(1));
}

RepPointsHead::Outputs RepPointsHead::operator()(Tape& tape, std::span<const Var> levels) const {
  require(levels.size() == strides_.size(), "RepPointsHead", "number of levels differs from number of strides");
  Outputs outputs;
  tape.in_branches(static_cast<int>(levels.size()), [&](int level) {
    const auto l = static_cast<size_t>(level);
    const std::string prefix = "bbox_head.level" + std::to_string(l) + ".";
    Var cls = levels[l], reg = levels[l];
    for (const ConvModule& conv : cls_convs_) cls = conv(tape, cls, Activation::relu);
    for (const ConvModule& conv : reg_convs_) reg = conv(tape, reg, Activation::relu);
    const Var init = ops::to_float(tape, init_out_(tape, init_conv_(tape, reg, Activation::relu)));
    // The deformable kernel adds its own grid; without it, tap k samples at the predicted point k.
    const Var taps = ops::subtract_row(tape, init, grid_, static_cast<float>(config_.gradient_mul));
    const Var logits = ops::to_float(tape, cls_out_(tape, cls_conv_.deformable(tape, cls, taps, Activation::relu)));
    const Var refined =
        ops::to_float(tape, refine_out_(tape, refine_conv_.deformable(tape, reg, taps, Activation::relu)));
    const Var refine = ops::add_detached(tape, refined, init);
    tape.name(prefix + "cls_feat", cls);
    tape.name(prefix + "reg_feat", reg);
    tape.name(prefix + "pts_init", init);
    tape.name(prefix + "cls_out", logits);
    tape.name(prefix + "pts_refine", refine);
    outputs.logits.push_back(logits);
    outputs.init_offsets.push_back(init);
    outputs.refine_offsets.push_back(refine);
  });
  return outputs;
}

const RepPointsHead::Priors& RepPointsHead::priors(Context& context, const std::vector<Var>& levels) const {
  std::vector<int64_t> key;
  for (const Var& level : levels) key.insert(key.end(), {level.dim(1), level.dim(2)});
  const auto found = priors_.find(key);
  if (found != priors_.end()) return found->second;

  Priors built;
  std::vector<float> points, scales;
  for (size_t l = 0; l < levels.size(); ++l) {
    const int64_t H = levels[l].dim(1), W = levels[l].dim(2);
    const auto stride = static_cast<float>(strides_[l]);
    built.level_rows.push_back(H * W);
    for (int64_t j = 0; j < H; ++j)
      for (int64_t i = 0; i < W; ++i) {
        points.insert(points.end(), {static_cast<float>(i) * stride, static_cast<float>(j) * stride, stride});
        scales.push_back(1.0f / (static_cast<float>(config_.point_base_scale) * stride));
      }
  }
  const auto P = static_cast<int64_t>(scales.size());
  built.points = context.upload<float>(points, {P, 3});
  built.box_scales = context.upload<float>(scales, {P});
  return priors_.emplace(std::move(key), std::move(built)).first->second;
}

Tensor RepPointsHead::normalizer(Tape& tape, Tensor& counts, bool classification, Communicator& communicator) const {
  // Index into count_assigned's sums; "num_valid" is a choice for the classification loss, boxes stay with their positives.
  int64_t index = 0;
  if (normalizer_ == "num_valid" && classification) index = 1;
  if (normalizer_ == "num_pos_image_min1") index = 2;
  if (normalizer_ == "pos_plus_neg") index = 3;
  Tensor result = tape.context().empty({1}, DType::f64);
  const View<const double> count(counts.view<double>().data() + index, {1});
  // The mean over ranks: with averaged gradients the sum over all ranks is divided by the global count.
  tape.run([&](auto& device) {
    kernels::scaled_maximum(device, count, 1.0 / communicator.world_size(), 1.0, result.view<double>());
  });
  return result;
}

std::vector<LossTerm> RepPointsHead::loss(Tape& tape, const Outputs& outputs, const GroundTruth& truth,
                                          Communicator& communicator, Targets* inspect) const {
  Context& context = tape.context();
  const Priors& cells = priors(context, outputs.logits);
  const Var logits = ops::concat_levels(tape, outputs.logits);
  const Var init = ops::concat_levels(tape, outputs.init_offsets);
  const Var refine = ops::concat_levels(tape, outputs.refine_offsets);
  const Var moment(moment_ == nullptr ? nullptr : &moment_->node);
  const auto moment_mul = static_cast<float>(config_.moment_mul);
  const Var init_boxes = ops::points_to_boxes(tape, init, cells.points, moment, transform_, moment_mul);
  const Var refine_boxes = ops::points_to_boxes(tape, refine, cells.points, moment, transform_, moment_mul);
  tape.name("bbox_head.init_boxes", init_boxes);
  tape.name("bbox_head.refine_boxes", refine_boxes);

  const int64_t N = logits.dim(0), P = logits.dim(1), M = truth.boxes.dim(1);
  Targets targets;
  targets.init_assigned = context.empty({N, P}, DType::i32);
  targets.refine_assigned = context.empty({N, P}, DType::i32);
  const kernels::PointAssign by_point{.scale = static_cast<float>(config_.point_base_scale),
                                      .pos_num = config_.init_pos_num};
  const kernels::MaxIouAssign by_iou{.pos_iou = static_cast<float>(config_.refine_pos_iou),
                                     .neg_iou = static_cast<float>(config_.refine_neg_iou),
                                     .min_pos_iou = static_cast<float>(config_.refine_min_pos_iou)};
  Tensor point_workspace = context.empty({kernels::point_assign_workspace(N, M, by_point)});
  Tensor iou_workspace = context.empty({kernels::max_iou_assign_workspace(N, M)});
  Tensor count_workspace = context.empty({kernels::count_assigned_workspace(N)}, DType::i32);

  struct Stage {
    Tensor labels, class_weights, box_targets, box_weights, counts;
  };
  const auto make_stage = [&](bool with_labels) {
    Stage s;
    s.labels = context.empty({with_labels ? N : 0, P}, DType::i32);
    s.class_weights = context.empty({with_labels ? N : 0, P});
    s.box_targets = context.empty({N, P, 4});
    s.box_weights = context.empty({N, P});
    s.counts = context.empty({4}, DType::f64);
    return s;
  };
  Stage first = make_stage(false), second = make_stage(true);
  const auto gather = [&](auto& device, const Tensor& assigned, Stage& stage) {
    const bool with_labels = stage.labels.size() > 0;
    kernels::gather_targets(device, assigned.view<int32_t>(), truth.boxes.view(), truth.labels.view<int32_t>(),
                            classes_, with_labels ? stage.labels.view<int32_t>() : View<int32_t>(),
                            with_labels ? stage.class_weights.view() : View<float>(), stage.box_targets.view(),
                            stage.box_weights.view());
    kernels::count_assigned(device, assigned.view<int32_t>(), stage.counts.view<double>(),
                            count_workspace.view<int32_t>());
  };
  const auto assign = [&](auto& device) {
    kernels::point_assign(device, cells.points.view(), truth.boxes.view(), truth.counts.view<int32_t>(), by_point,
                          targets.init_assigned.view<int32_t>(), point_workspace.view());
    kernels::max_iou_assign(device, init_boxes.view(), truth.boxes.view(), truth.counts.view<int32_t>(), by_iou,
                            targets.refine_assigned.view<int32_t>(), iou_workspace.view());
    gather(device, std::as_const(targets.init_assigned), first);
    gather(device, std::as_const(targets.refine_assigned), second);
  };
  in_range("assign", [&] { tape.run(assign); });

  communicator.all_reduce_sum(first.counts);
  communicator.all_reduce_sum(second.counts);
  const Tensor init_normalizer = normalizer(tape, first.counts, false, communicator);
  const Tensor refine_normalizer = normalizer(tape, second.counts, false, communicator);
  const Tensor class_normalizer = normalizer(tape, second.counts, true, communicator);

  const Range range("loss");
  std::vector<LossTerm> terms;
  terms.push_back({"loss_cls", loss_->loss(tape, logits, second.labels, second.class_weights, class_normalizer)});
  const auto beta = static_cast<float>(config_.smooth_l1_beta);
  terms.push_back({"loss_pts_init", ops::smooth_l1(tape, init_boxes, first.box_targets, first.box_weights,
                                                   cells.box_scales, beta, config_.init_loss_weight, init_normalizer)});
  terms.push_back(
      {"loss_pts_refine", ops::smooth_l1(tape, refine_boxes, second.box_targets, second.box_weights, cells.box_scales,
                                         beta, config_.refine_loss_weight, refine_normalizer)});
  if (inspect != nullptr) {
    targets.init_counts = std::move(first.counts);
    targets.refine_counts = std::move(second.counts);
    targets.init_normalizer = context.empty({1}, DType::f64);
    targets.refine_normalizer = context.empty({1}, DType::f64);
    context.copy(init_normalizer, targets.init_normalizer);
    context.copy(class_normalizer, targets.refine_normalizer);
    *inspect = std::move(targets);
  }
  return terms;
}

std::vector<std::vector<ScoredBox>> RepPointsHead::detect(Tape& tape, const Outputs& outputs,
                                                          std::span<const int32_t> sizes,
                                                          const TestConfig& test) const {
  const Priors& cells = priors(tape.context(), outputs.logits);
  const Var logits = ops::concat_levels(tape, outputs.logits);
  const Var refine = ops::concat_levels(tape, outputs.refine_offsets);
  const Var moment(moment_ == nullptr ? nullptr : &moment_->node);
  const Var boxes = ops::points_to_boxes(tape, refine, cells.points, moment, transform_, 1.0f);
  Tensor scores = tape.context().empty({logits.dim(0), logits.dim(1), classes_});
  loss_->scores(tape.context(), logits.view(), scores.view());
  return select_detections(tape.context(), scores, boxes.node().value, cells.level_rows, sizes, test);
}

}  // namespace gradlibra
