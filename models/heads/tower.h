// SPDX-License-Identifier: MIT
// What dense heads have in common: a stack of 3x3 convolutions shared by all levels, and how their layers start.
#pragma once

#include <string>
#include <vector>

#include "models/layers.h"

namespace gradlibra {

// Odd kernel, stride 1, size kept; weights N(0, 0.01^2), bias 0 unless said otherwise.
[[nodiscard]] ConvLayer::Options head_convolution(int kernel);

// `name`.{0..count-1}: 3x3 convolution, norm, ReLU each, `in` channels to `channels`.
class Tower {
 public:
  struct Options {
    int count = 4;
    std::string norm = "group";  // or "none"
    int norm_groups = 32;
    bool bias_beside_norm = false;  // without a norm there always is one
  };
  Tower() = default;
  Tower(ParameterStore& store, const std::string& name, int in, int channels, const Options& options);
  [[nodiscard]] Var operator()(Tape& tape, Var x) const;

 private:
  std::vector<ConvModule> layers_;
};

}  // namespace gradlibra
