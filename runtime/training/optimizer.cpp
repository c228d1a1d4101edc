// SPDX-License-Identifier: MIT
#include "runtime/training/optimizer.h"

#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "kernels/sgd.h"

namespace gradlibra {

namespace {

bool decays(Role role, const OptimizerConfig& config) {
  switch (role) {
    case Role::norm_scale:
    case Role::norm_shift:
      return config.decay_norm;
    case Role::bias:
      return config.decay_bias;
    default:
      return true;
  }
}

}  // namespace

void OptimizerConfig::describe(ConfigVisitor& v) {
  v.field("momentum", momentum, "of SGD", between(0, 1));
  v.field("weight_decay", weight_decay, "added to the gradient as weight_decay * parameter", at_least(0));
  v.field("clip_norm", clip_norm, "largest L2 norm of all gradients together; 0 for no clipping", at_least(0));
  v.field("decay_norm", decay_norm, "weight decay on scale and shift of normalisation layers");
  v.field("decay_bias", decay_bias, "weight decay on biases of convolutions");
  v.field("backbone_lr_factor", backbone_lr_factor, "multiple of the learning rate in the backbone", at_least(0));
  v.field("bias_lr_factor", bias_lr_factor, "multiple of the learning rate of biases of convolutions", at_least(0));
}

Optimizer::Optimizer(ParameterStore& parameters, const OptimizerConfig& config)
    : parameters_(parameters), config_(config) {
  for (Parameter& p : parameters.all()) {
    if (!p.trainable) continue;
    if (!decays(p.role, config)) p.decay_factor = 0;
    if (p.section == Section::backbone) p.lr_factor = config.backbone_lr_factor;
    if (p.role == Role::bias) p.lr_factor *= config.bias_lr_factor;
  }
  Context& context = parameters.context();
  lr_ = context.zeros({1});
  grad_scale_ = context.zeros({1});
  sum_squares_ = context.zeros({1}, DType::f64);
  workspace_ = context.zeros({kernels::reduce_workspace(parameters.flat_grads().size())}, DType::f64);
}

void Optimizer::set_lr(double lr) {
  // A launch with the value as its argument: nobody waits, as a copy from the host might.
  parameters_.context().run([&](auto& device) { kernels::fill(device, lr_.view(), static_cast<float>(lr)); });
}

void Optimizer::update(View<const double> losses) {
  Context& context = parameters_.context();
  Tensor& grads = parameters_.flat_grads();
  context.run([&](auto& device) {
    kernels::sum_squares(device, std::as_const(grads).view(), sum_squares_.view<double>(), Accumulate::overwrite,
                         workspace_.view<double>());
    kernels::clip_factor(device, sum_squares_.view<double>(), losses, static_cast<float>(config_.clip_norm),
                         grad_scale_.view());
    for (const ParameterStore::Group& group : parameters_.groups()) {
      const kernels::Sgd options{.momentum = static_cast<float>(config_.momentum),
                                 .weight_decay = static_cast<float>(config_.weight_decay * group.decay_factor),
                                 .lr_factor = static_cast<float>(group.lr_factor)};
      const Shape shape{group.end - group.begin};
      kernels::sgd_step(device, parameters_.flat_values(group), {grads.view().data() + group.begin, shape},
                        {parameters_.flat_velocities().view().data() + group.begin, shape}, lr_.view(),
                        grad_scale_.view(), options);
    }
  });
  parameters_.weights_changed();
}

}  // namespace gradlibra
