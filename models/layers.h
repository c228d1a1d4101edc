// SPDX-License-Identifier: MIT
// Layers: a struct of parameters and a call operator that puts them on a tape.
#pragma once

#include <string>

#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/elementwise.h"
#include "runtime/autograd/ops/norm.h"
#include "runtime/autograd/ops/resample.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

// Convolution weight (out, kernel, kernel, in) and optional bias, named `name`.weight and `name`.bias.
struct ConvLayer {
  struct Options {
    int kernel = 3;
    kernels::ConvShape shape;
    bool bias = true;
    bool trainable = true;
    Init weight_init;
    Init bias_init;
    bool classifier = false;  // the last layer of a class branch
  };
  ConvLayer() = default;
  ConvLayer(ParameterStore& store, std::string name, int in, int out, const Options& options);

  [[nodiscard]] Var operator()(Tape& tape, Var x, ops::Activation activation = ops::Activation::none) const;
  // The weight as that of a deformable convolution (no bias).
  [[nodiscard]] Var deformable(Tape& tape, Var x, Var offsets, ops::Activation activation,
                               const ops::SamplePoints& points = nullptr) const;
  // Weight and bias as those of a modulated deformable convolution, whose offsets and masks are `prediction`.
  [[nodiscard]] Var modulated(Tape& tape, Var x, Var prediction, ops::Activation activation) const;
  // Counts the multiply-adds of an output y.
  void add_cost(Tape& tape, Var y) const;

  std::string name;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  kernels::ConvShape shape;
};

enum class NormStatistics {
  stored,  // the running ones, as they are
  batch,   // the batch's, which also update the running ones
};

// Batch norm with running statistics, `name`.{weight,bias,running_mean,running_var}.
struct BatchNormLayer {
  BatchNormLayer() = default;
  BatchNormLayer(ParameterStore& store, const std::string& name, int channels, bool trainable, double weight_init);
  // activation(norm(conv(x)) + residual); the residual may be an empty Var. With stored statistics norm and convolution
  // are one; a convolution with a bias is then for inference only.
  [[nodiscard]] Var after(const ConvLayer& conv, Tape& tape, Var x, NormStatistics mode, Var residual,
                          ops::Activation activation, const ops::FoldedNorm& folded = {}) const;
  // What `after` folds for itself if it is not given it.
  [[nodiscard]] ops::FoldedNorm folded_into(const ConvLayer& conv, Tape& tape) const;

  Parameter *weight = nullptr, *bias = nullptr, *running_mean = nullptr, *running_var = nullptr;
};

// MMDetection's Scale: one learned number, `name`.scale, that starts at 1; f(scale * x) in float32.
struct ScaleLayer {
  ScaleLayer() = default;
  ScaleLayer(ParameterStore& store, const std::string& name);
  [[nodiscard]] Var operator()(Tape& tape, Var x, kernels::ScaledActivation f) const;

  Parameter* scale = nullptr;
};

// std::invalid_argument names both keys of `section` if its group norms do not divide the channels that `channels_key`
// says: before layers are made, which know no keys.
void check_groups(const std::string& section, const std::string& norm, int norm_groups, const std::string& channels_key,
                  int channels);

// Group norm, `name`.{weight,bias}; eps 1e-5.
struct GroupNormLayer {
  GroupNormLayer() = default;
  GroupNormLayer(ParameterStore& store, const std::string& name, int channels, int group_count);
  [[nodiscard]] Var operator()(Tape& tape, Var x, ops::Activation activation) const;

  Parameter *weight = nullptr, *bias = nullptr;
  int groups = 1;
};

// MMDetection's ConvModule: `name`.conv, then `name`.gn if norm is "group" (the convolution then has no bias, unless
// bias_beside_norm), then the activation.
struct ConvModule {
  ConvModule() = default;
  ConvModule(ParameterStore& store, const std::string& name, int in, int out, ConvLayer::Options options,
             const std::string& norm, int norm_groups, bool bias_beside_norm = false);
  // With a modulated deformable convolution of 3x3 (arXiv:1811.11168) in place of the plain one, whose offsets and
  // masks `name`.conv.conv_offset predicts from the same map. That starts at 0: at the regular grid, with masks of 1/2.
  // The weights start uniform within 1 / sqrt(9 * in), as MMCV's layer has it.
  [[nodiscard]] static ConvModule modulated(ParameterStore& store, const std::string& name, int in, int out,
                                            const std::string& norm, int norm_groups, bool bias_beside_norm = false);
  [[nodiscard]] Var operator()(Tape& tape, Var x, ops::Activation activation) const;

  ConvLayer conv;
  ConvLayer conv_offset;  // of a modulated convolution; without a weight for a plain one
  GroupNormLayer norm;
  bool has_norm = false;

 private:
  [[nodiscard]] Var convolve(Tape& tape, Var x, ops::Activation activation) const;
};

// MMDetection's ConvModule with a batch norm that trains: `name`.conv without a bias, `name`.bn, ReLU. A recorded step
// takes the batch's statistics, inference the stored ones.
struct ConvBatchNorm {
  ConvBatchNorm() = default;
  ConvBatchNorm(ParameterStore& store, const std::string& name, int in, int out, ConvLayer::Options options);
  [[nodiscard]] Var operator()(Tape& tape, Var x) const;

  ConvLayer conv;
  BatchNormLayer norm;
};

}  // namespace gradlibra
