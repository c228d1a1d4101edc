// SPDX-License-Identifier: MIT
// SGD with momentum over all parameters of a store: gradient norm, clipping and update, without a look from the host.
#pragma once

#include "runtime/base/config.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

struct OptimizerConfig {
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double clip_norm = 0;    // L2 norm over all gradients; 0: off
  bool decay_norm = true;  // weight decay on scale and shift of normalisation layers
  bool decay_bias = true;  // weight decay on biases of convolutions
  double backbone_lr_factor = 1;
  double bias_lr_factor = 1;  // of biases of convolutions
  void describe(ConfigVisitor& v);
};

class Optimizer {
 public:
  // Sets the parameters' lr and decay factors from the configuration.
  Optimizer(ParameterStore& parameters, const OptimizerConfig& config);

  // Measures the gradients' norm, clips, updates. With a norm or a loss (doubles on the device, may be empty) that is
  // not finite nothing is updated. All ranks must decide alike: gradients and losses have been summed over them. Call
  // after GradientBuckets::finish(), on one rank ParameterStore::finish_backward(). The rate is the last one set.
  void update(View<const double> losses = {});
  void set_lr(double lr);

  // (1), on the device: the factor that clipping put on the gradients; NaN if nothing was updated.
  [[nodiscard]] View<const float> grad_scale() const { return grad_scale_.view(); }

  // (1) double, on the device: the square of the L2 norm of the gradients, before clipping.
  [[nodiscard]] const Tensor& sum_squares() const { return sum_squares_; }

 private:
  ParameterStore& parameters_;
  OptimizerConfig config_;
  Tensor lr_, grad_scale_, sum_squares_, workspace_;
};

}  // namespace gradlibra
