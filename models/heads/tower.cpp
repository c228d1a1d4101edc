// SPDX-License-Identifier: MIT
#include "models/heads/tower.h"

#include "kernels/losses/sigmoid_loss.h"
#include "models/losses/classification_loss.h"

namespace gradlibra {

ConvLayer::Options head_convolution(int kernel) {
  return {.kernel = kernel, .shape = {.padding = kernel / 2}, .weight_init = {Init::Kind::normal, 0.01}};
}

ConvLayer::Options classifier_convolution(int kernel, const ClassificationLoss& loss, int anchors) {
  ConvLayer::Options options = head_convolution(kernel);
  options.classifier = true;
  options.bias_init.kind = Init::Kind::values;
  const std::vector<float> bias = loss.bias_init();
  for (int a = 0; a < anchors; ++a)
    options.bias_init.values.insert(options.bias_init.values.end(), bias.begin(), bias.end());
  return options;
}

std::vector<ScaleLayer> level_scales(ParameterStore& store, size_t levels) {
  std::vector<ScaleLayer> scales;
  for (size_t l = 0; l < levels; ++l) scales.emplace_back(store, "bbox_head.scales." + std::to_string(l));
  return scales;
}

Tensor centerness_factors(Tape& tape, Var centerness) {
  Tensor factors = tape.buffer({centerness.dim(0), centerness.dim(1)});
  tape.run([&](auto& device) {
    kernels::sigmoid(device, centerness.view(), View<float>(factors.view().data(), centerness.shape()));
  });
  return factors;
}

Tower::Tower(ParameterStore& store, const std::string& name, int in, int channels, const Options& options) {
  for (int i = 0; i < options.count; ++i) {
    const std::string layer = name + "." + std::to_string(i);
    const int from = i == 0 ? in : channels;
    layers_.push_back(options.modulated_last && i + 1 == options.count
                          ? ConvModule::modulated(store, layer, from, channels, options.norm, options.norm_groups,
                                                  options.bias_beside_norm)
                          : ConvModule(store, layer, from, channels, head_convolution(3), options.norm,
                                       options.norm_groups, options.bias_beside_norm));
  }
}

Var Tower::operator()(Tape& tape, Var x) const {
  for (const ConvModule& layer : layers_) x = layer(tape, x, ops::Activation::relu);
  return x;
}

}  // namespace gradlibra
