// SPDX-License-Identifier: MIT
#include "models/necks/fpn.h"

#include <cmath>
#include <stdexcept>

namespace gradlibra {

namespace {

using ops::Activation;

// Xavier uniform.
ConvLayer::Options conv_options(int in, int out, int kernel, int stride) {
  return {.kernel = kernel,
          .shape = {.stride = stride, .padding = kernel / 2},
          .weight_init = {Init::Kind::uniform, std::sqrt(6.0 / (kernel * kernel * (in + out)))}};
}

}  // namespace

Fpn::Fpn(ParameterStore& store, const NeckConfig& config, std::span<const int> in_channels) : config_(config) {
  const int stages = static_cast<int>(in_channels.size()), out = config.out_channels;
  if (config.start_level < 0 || config.start_level >= stages)
    throw std::invalid_argument("model.neck.start_level must be between 0 and " + std::to_string(stages - 1));
  const int used = stages - config.start_level;
  if (config.num_outs < used)
    throw std::invalid_argument("model.neck.num_outs must be at least " + std::to_string(used) +
                                " with model.neck.start_level=" + std::to_string(config.start_level));
  check_groups("model.neck", config.norm, config.norm_groups, "out_channels", out);
  store.enter(Section::neck);
  pyramid_.channels = out;
  for (int i = 0; i < config.num_outs; ++i) pyramid_.strides.push_back(4 << (config.start_level + i));
  for (int i = 0; i < used; ++i) {
    const int in = in_channels[static_cast<size_t>(config.start_level) + static_cast<size_t>(i)];
    lateral_.emplace_back(store, "neck.lateral_convs." + std::to_string(i), in, out, conv_options(in, out, 1, 1),
                          config.norm, config.norm_groups);
  }
  for (int i = 0; i < config.num_outs; ++i) {
    if (i >= used && config.extra == "max_pool") break;
    const int in = i == used && config.extra == "on_input" ? in_channels.back() : out;
    output_.emplace_back(store, "neck.fpn_convs." + std::to_string(i), in, out,
                         conv_options(in, out, 3, i < used ? 1 : 2), config.norm, config.norm_groups);
  }
}

std::vector<Var> Fpn::operator()(Tape& tape, std::span<const Var> stages) const {
  const size_t used = lateral_.size(), first = static_cast<size_t>(config_.start_level);
  std::vector<Var> laterals;
  tape.in_branches(static_cast<int>(used), [&](int) {
    const size_t i = laterals.size();
    laterals.push_back(lateral_[i](tape, stages[first + i], Activation::none));
  });
  for (size_t i = used - 1; i > 0; --i) laterals[i - 1] = ops::upsample_add(tape, laterals[i], laterals[i - 1]);

  std::vector<Var> levels;
  tape.in_branches(static_cast<int>(used), [&](int) {
    const size_t i = levels.size();
    levels.push_back(output_[i](tape, laterals[i], Activation::none));
    if (levels.size() == used)
      add_extra_levels(tape, stages.back(), laterals.back(), levels);  // they grow from the last
  });
  for (size_t i = 0; i < levels.size(); ++i)
    tape.note("neck.p" + std::to_string(i + static_cast<size_t>(config_.start_level) + 2), levels[i]);
  return levels;
}

void Fpn::add_extra_levels(Tape& tape, Var last_stage, Var last_lateral, std::vector<Var>& levels) const {
  const size_t used = lateral_.size();
  for (size_t i = used; i < static_cast<size_t>(config_.num_outs); ++i) {
    if (config_.extra == "max_pool") {
      levels.push_back(ops::subsample2(tape, levels.back()));
      continue;
    }
    Var source = levels.back();
    if (i == used && config_.extra == "on_input") source = last_stage;
    if (i == used && config_.extra == "on_lateral") source = last_lateral;
    if (i > used && config_.relu_before_extra) source = ops::relu(tape, source);
    levels.push_back(output_[i](tape, source, Activation::none));
  }
}

}  // namespace gradlibra
