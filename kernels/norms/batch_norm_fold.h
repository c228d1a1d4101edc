// SPDX-License-Identifier: MIT
// A batch norm with constant statistics as a part of the convolution before it: its scale goes into the weight, its
// shift becomes the bias, and no pass over the map is left of it.
#pragma once

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// conv2d(x, weight), then gamma[k] * (. - mean[k]) * rstd[k] + beta[k], equals conv2d(x, folded_weight) + folded_bias
// with
//   rstd[k] = 1 / sqrt(var[k] + eps),   s[k] = gamma[k] / sqrt(var[k] + eps)
//   folded_weight[k, ...] = s[k] * weight[k, ...]
//   folded_bias[k] = beta[k] - mean[k] * s[k]
// weight (K, ...) as the convolution has it, folded_weight of the same shape; all others (K), var + eps > 0. The folded
// ones are float or bfloat16 (rounded once), as the convolution takes them. K may be 0.
template <MapType T>
void fold_batch_norm(Cpu&, View<const float> weight, View<const float> gamma, View<const float> beta,
                     View<const float> mean, View<const float> var, float eps, View<T> folded_weight,
                     View<T> folded_bias);
template <MapType T>
void fold_batch_norm(Cuda&, View<const float> weight, View<const float> gamma, View<const float> beta,
                     View<const float> mean, View<const float> var, float eps, View<T> folded_weight,
                     View<T> folded_bias);

// From the gradients of the folded parameters (grad_folded_bias: the sum of the output's gradient over the rows):
//   grad_weight[k, ...] (+)= s[k] * grad_folded_weight[k, ...]
//   grad_gamma[k] (+)= rstd[k] * (<weight[k, ...], grad_folded_weight[k, ...]> - mean[k] * grad_folded_bias[k])
//   grad_beta[k] (+)= grad_folded_bias[k]
// Each output has its own mode; one without data is left out. The inner products are summed in double, in a fixed
// order. grad_folded_weight is float or bfloat16; if float, grad_weight may be the same memory where it is overwritten.
template <MapType T>
void fold_batch_norm_backward(Cpu&, View<const float> weight, View<const float> gamma, View<const float> mean,
                              View<const float> var, float eps, In<T> grad_folded_weight,
                              View<const float> grad_folded_bias, View<float> grad_weight, Accumulate mode_weight,
                              View<float> grad_gamma, Accumulate mode_gamma, View<float> grad_beta,
                              Accumulate mode_beta);
template <MapType T>
void fold_batch_norm_backward(Cuda&, View<const float> weight, View<const float> gamma, View<const float> mean,
                              View<const float> var, float eps, In<T> grad_folded_weight,
                              View<const float> grad_folded_bias, View<float> grad_weight, Accumulate mode_weight,
                              View<float> grad_gamma, Accumulate mode_gamma, View<float> grad_beta,
                              Accumulate mode_beta);

// What both versions check first. They return the number of weights per k.
int64_t check_fold_batch_norm(View<const float> weight, View<const float> gamma, View<const float> beta,
                              View<const float> mean, View<const float> var, const Shape& folded_weight,
                              const Shape& folded_bias);
int64_t check_fold_batch_norm_backward(View<const float> weight, View<const float> gamma, View<const float> mean,
                                       View<const float> var, const void* grad_folded_weight,
                                       const Shape& grad_folded_weight_shape, View<const float> grad_folded_bias,
                                       View<float> grad_weight, Accumulate mode_weight, View<float> grad_gamma,
                                       View<float> grad_beta);

}  // namespace gradlibra::kernels
