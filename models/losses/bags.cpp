// SPDX-License-Identifier: MIT
#include "models/losses/bags.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "kernels/losses/bags.h"
#include "kernels/losses/bags_sample.h"
#include "kernels/scalar.h"
#include "models/losses/sigmoid_family.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

void BagsConfig::describe(ConfigVisitor& v) {
  v.field("edges", edges,
          "boxes of a class in the training split from which it belongs to the next group: one edge, two groups",
          at_least(1));
  v.field("beta", beta, "rows of other classes that take part in a group, for each row of its own", at_least(0));
  v.field("seed", seed, "of the drawing of those rows", at_least(0));
  v.choice("foreground_normalizer", foreground_normalizer, {"shared", "rows"},
           "what foreground against background is divided by: model.loss.normalizer, or all rows as published");
  v.field("finetune", finetune,
          "train the classifier alone, on the other weights of train.pretrained, a detector of another loss");
}

std::vector<std::vector<int>> bags_groups(std::span<const int64_t> instances, std::span<const int> edges) {
  std::vector<std::vector<int>> groups(edges.size() + 1);
  for (size_t c = 0; c < instances.size(); ++c) {
    const auto group = std::count_if(edges.begin(), edges.end(), [&](int edge) { return instances[c] >= edge; });
    groups[static_cast<size_t>(group)].push_back(static_cast<int>(c));
  }
  std::erase_if(groups, [](const std::vector<int>& group) { return group.empty(); });
  return groups;
}

namespace {

class BagsLoss final : public ClassificationLoss {
 public:
  BagsLoss(Context& context, const LossConfig& config, const ClassInfo& classes)
      : known_(!classes.instances.empty()),
        shared_normalizer_(config.bags.foreground_normalizer == "shared"),
        classes_(classes.count()),
        beta_(config.bags.beta),
        weight_(config.weight),
        bias_(prior_bias(config.prior_probability)) {
    std::vector<int64_t> instances = classes.instances;
    if (!known_)  // any that leave no group empty, for shapes and costs
      for (int c = 0; c < classes_; ++c)
        instances.push_back(c == 0 ? 0 : config.bags.edges[static_cast<size_t>(c - 1) % config.bags.edges.size()]);
    const std::vector<std::vector<int>> groups = bags_groups(instances, config.bags.edges);
    std::vector<int32_t> group_of(static_cast<size_t>(classes_)), channel_of = group_of, first{0, 2};
    for (size_t g = 0; g < groups.size(); ++g) {
      int32_t channel = first.back();
      for (const int c : groups[g]) {
        group_of[static_cast<size_t>(c)] = static_cast<int32_t>(g + 1);
        channel_of[static_cast<size_t>(c)] = ++channel;  // behind `others`
      }
      first.push_back(channel + 1);
    }
    channels_ = first.back();
    class_channels_ = channel_of;
    group_of_ = context.upload<int32_t>(group_of, {classes_});
    channel_of_ = context.upload<int32_t>(channel_of, {classes_});
    first_ = context.upload<int32_t>(first, {static_cast<int64_t>(first.size())});
    groups_ = context.upload<double>(std::vector<double>(group_of.begin(), group_of.end()), {classes_});
    sampling_ = context.upload<double>(std::vector<double>{static_cast<double>(config.bags.seed), 0}, {2});
    next_ = context.upload<double>(std::vector<double>{0, 1}, {2});
    class_normalizers_ = context.empty({classes_}, DType::f64);
  }

  [[nodiscard]] int channels() const override { return channels_; }
  [[nodiscard]] bool has_objectness() const override { return true; }
  // Rows that a group did not draw say nothing about its classes.
  [[nodiscard]] ClassLogits class_logits() const override { return {.channels = class_channels_, .every_row = false}; }
  [[nodiscard]] const Tensor* class_normalizers() const override { return &class_normalizers_; }

  // The classes of a group start alike; that there is an object at all starts at the prior probability.
  [[nodiscard]] std::vector<float> bias_init() const override {
    std::vector<float> bias(static_cast<size_t>(channels_), 0);
    bias[1] = bias_;
    return bias;
  }

  [[nodiscard]] Tensor scores(Tape& tape, Var logits) const override {
    const int64_t N = logits.dim(0), P = logits.dim(1);
    Tensor result = tape.buffer({N, P, classes_});
    if (tape.computes()) require_instances(known_, "bags");
    tape.run([&](auto& device) {
      kernels::bags_scores(device, {logits.view().data(), {N * P, channels_}}, layout(),
                           result.view<float>({N * P, classes_}));
    });
    return result;
  }

  // Draws the rows of this step. For the normalizers: the number of rows, and the weights of those in each group.
  [[nodiscard]] Tensor before(Tape& tape, const Rows& rows) override {
    require_instances(known_, "bags");
    const int64_t R = rows.labels.size(), G = layout().groups();
    Context& context = tape.context();
    if (sample_.empty() || sample_.dim(0) != R) sample_ = context.empty({R, G}, DType::u8);
    Tensor sums = context.empty({G + 1}, DType::f64);
    profiled("sample", [&] {
      tape.run([&](auto& device) {
        Tensor workspace = context.empty({kernels::bags_sample_workspace(device, R, G)}, DType::i64);
        kernels::bags_sample(device, rows.labels.view<int32_t>({R}), rows.weights.view<float>({R}), layout().group_of,
                             beta_, std::as_const(sampling_).view<double>(), rows.rank, sample_.view<uint8_t>(),
                             sums.view<double>(), workspace.view<int64_t>());
      });
    });
    return sums;
  }

  [[nodiscard]] Tensor loss(Tape& tape, const Rows& rows, const Tensor& normalizer, const Summed& summed) override {
    const int64_t R = rows.labels.size(), K = channels_;
    Context& context = tape.context();
    Tensor normalizers = context.empty(summed.values.shape(), DType::f64);
    tape.run([&](auto& device) {
      kernels::scaled_maximum(device, summed.values.view<double>(), 1, summed.ranks, normalizers.view<double>());
    });
    if (shared_normalizer_) {
      Tensor of_foreground = Tensor::borrow(normalizers.view<double>().data(), {1});
      context.copy(normalizer, of_foreground);
    }
    tape.run([&](auto& device) {
      kernels::gather(device, std::as_const(normalizers).view<double>(), layout().group_of,
                      class_normalizers_.view<double>());
    });
    Tensor value = context.empty({1}, DType::f64);
    Tensor workspace = context.empty({kernels::bags_loss_workspace(R)}, DType::f64);
    ops::with_loss_gradient(tape, rows.logits, [&](View<float> grad) {
      tape.run([&](auto& device) {
        kernels::bags_loss(device, {rows.logits.view().data(), {R, K}}, rows.labels.view<int32_t>({R}),
                           rows.weights.view<float>({R}), std::as_const(sample_).view<uint8_t>(), layout(),
                           {weight_,
                            std::as_const(normalizers).view<double>(),
                            value.view<double>(),
                            {grad.data(), {R, K}},
                            workspace.view<double>()});
      });
    });
    return value;
  }

  void commit(Context& context, View<const double>, View<const float> ok) override {
    context.run([&](auto& device) {
      kernels::add_if_finite(device, std::as_const(next_).view<double>(), ok, sampling_.view<double>());
    });
  }

  [[nodiscard]] std::vector<TrainingState> state() override {
    std::vector<TrainingState> states{{"bags.sampling", &sampling_}};
    if (known_) states.push_back({.name = "bags.groups", .values = &groups_, .fixed = true});
    return states;
  }

 private:
  [[nodiscard]] kernels::BagsLayout layout() const {
    return {group_of_.view<int32_t>(), channel_of_.view<int32_t>(), first_.view<int32_t>()};
  }

  bool known_, shared_normalizer_;
  int classes_, channels_ = 0;
  double beta_, weight_;
  float bias_;
  Tensor group_of_, channel_of_, first_;  // kernels::BagsLayout
  Tensor groups_;                         // (C) doubles: group_of_, as checkpoints hold it
  Tensor sampling_, next_;                // (2) doubles: seed and number of the step; what a step adds to them
  Tensor sample_;                         // (R, G): the rows of this step
  std::vector<int32_t> class_channels_;   // channel_of_
  Tensor class_normalizers_;              // (C) doubles: of each class's group in this step
};

}  // namespace

std::unique_ptr<ClassificationLoss> make_bags(Context& context, const LossConfig& config, const ClassInfo& classes) {
  const BagsConfig& options = config.bags;
  if (options.edges.empty() || options.edges.front() < 1 ||
      std::adjacent_find(options.edges.begin(), options.edges.end(), std::greater_equal<>()) != options.edges.end())
    throw std::invalid_argument("model.loss.bags.edges must be one or more ascending counts, such as [5000, 10000]");
  if (!(options.beta >= 0 && std::isfinite(options.beta)))
    throw std::invalid_argument("model.loss.bags.beta must not be negative");
  if (options.seed < 0) throw std::invalid_argument("model.loss.bags.seed must not be negative");
  return std::make_unique<BagsLoss>(context, config, classes);
}

}  // namespace gradlibra
