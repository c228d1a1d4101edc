// SPDX-License-Identifier: MIT
#include "models/heads/tower.h"

namespace gradlibra {

ConvLayer::Options head_convolution(int kernel) {
  return {.kernel = kernel, .shape = {.padding = kernel / 2}, .weight_init = {Init::Kind::normal, 0.01}};
}

Tower::Tower(ParameterStore& store, const std::string& name, int in, int channels, const Options& options) {
  for (int i = 0; i < options.count; ++i)
    layers_.emplace_back(store, name + "." + std::to_string(i), i == 0 ? in : channels, channels, head_convolution(3),
                         options.norm, options.norm_groups, options.bias_beside_norm);
}

Var Tower::operator()(Tape& tape, Var x) const {
  for (const ConvModule& layer : layers_) x = layer(tape, x, ops::Activation::relu);
  return x;
}

}  // namespace gradlibra
