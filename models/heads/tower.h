// SPDX-License-Identifier: MIT
// What dense heads have in common: a stack of 3x3 convolutions shared by all levels, and how their layers start.
#pragma once

#include <string>
#include <vector>

#include "models/layers.h"

namespace gradlibra {

class ClassificationLoss;

// Odd kernel, stride 1, size kept; weights N(0, 0.01^2), bias 0 unless said otherwise.
[[nodiscard]] ConvLayer::Options head_convolution(int kernel);
// The same for a head's last layer of classes, whose biases start where the loss wants them, for each anchor of a cell.
[[nodiscard]] ConvLayer::Options classifier_convolution(int kernel, const ClassificationLoss& loss, int anchors = 1);

// One scale for each level, `bbox_head.scales.<level>`.
[[nodiscard]] std::vector<ScaleLayer> level_scales(ParameterStore& store, size_t levels);

// By how much centerness logits (N, P, 1) multiply the scores: (N, P).
[[nodiscard]] Tensor centerness_factors(Tape& tape, Var centerness);

// `name`.{0..count-1}: 3x3 convolution, norm, ReLU each, `in` channels to `channels`.
class Tower {
 public:
  struct Options {
    int count = 4;
    std::string norm = "group";  // or "none"
    int norm_groups = 32;
    bool bias_beside_norm = false;  // without a norm there always is one
    bool modulated_last = false;    // the last convolution is a modulated deformable one (ConvModule::modulated)
  };
  Tower() = default;
  Tower(ParameterStore& store, const std::string& name, int in, int channels, const Options& options);
  [[nodiscard]] Var operator()(Tape& tape, Var x) const;

 private:
  std::vector<ConvModule> layers_;
};

}  // namespace gradlibra
