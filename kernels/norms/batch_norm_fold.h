// SPDX-License-Identifier: MIT
// A batch norm with constant statistics as a part of the convolution before it: its scale goes into the weight, its
// shift becomes the bias, and no pass over the map is left of it.
#pragma once

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// The norm of K channels, all views (K), var + eps > 0. beta is not read on the way back and may be empty there.
struct StoredNorm {
  View<const float> gamma, beta{}, mean, var;
  float eps;
};

// conv2d(x, weight), then gamma[k] * (. - mean[k]) * rstd[k] + beta[k], equals conv2d(x, folded_weight) + folded_bias
// with
//   rstd[k] = 1 / sqrt(var[k] + eps),   s[k] = gamma[k] / sqrt(var[k] + eps)
//   folded_weight[k, ...] = s[k] * weight[k, ...]
//   folded_bias[k] = beta[k] - mean[k] * s[k]
// weight (K, ...) as the convolution has it, folded_weight of the same shape, folded_bias (K). The folded ones are
// float or bfloat16 (rounded once), as the convolution takes them. K may be 0.
template <MapType T>
void fold_batch_norm(Cpu&, View<const float> weight, const StoredNorm&, View<T> folded_weight, View<T> folded_bias);
template <MapType T>
void fold_batch_norm(Cuda&, View<const float> weight, const StoredNorm&, View<T> folded_weight, View<T> folded_bias);

// Of the folded parameters; bias: the sum of the output's gradient over the rows.
template <MapType T>
struct FoldedGradients {
  View<const T> weight;
  View<const float> bias;
};
// Of the layer's own parameters. One without memory is left out.
struct UnfoldedGradients {
  GradTarget<> weight{}, gamma{}, beta{};
};

//   to.weight[k, ...] (+)= s[k] * from.weight[k, ...]
//   to.gamma[k] (+)= rstd[k] * (<weight[k, ...], from.weight[k, ...]> - mean[k] * from.bias[k])
//   to.beta[k] (+)= from.bias[k]
// The inner products are summed in double, in a fixed order. from.weight is float or bfloat16; if float, to.weight may
// be the same memory where it is overwritten.
template <MapType T>
void fold_batch_norm_backward(Cpu&, View<const float> weight, const StoredNorm&, const FoldedGradients<T>& from,
                              const UnfoldedGradients& to);
template <MapType T>
void fold_batch_norm_backward(Cuda&, View<const float> weight, const StoredNorm&, const FoldedGradients<T>& from,
                              const UnfoldedGradients& to);

// What both versions check first. They return the number of weights per k.
inline int64_t check_stored_norm(const char* op, View<const float> weight, const StoredNorm& norm) {
  require(weight.rank() >= 1, op, "weight has shape () instead of (K, ...)");
  const int64_t K = weight.dim(0);
  require_shape(op, "gamma", norm.gamma, {K});
  require_shape(op, "mean", norm.mean, {K});
  require_shape(op, "var", norm.var, {K});
  return K == 0 ? 0 : weight.size() / K;
}
template <MapType T>
int64_t check_fold_batch_norm(View<const float> weight, const StoredNorm& norm, View<T> folded_weight,
                              View<T> folded_bias) {
  const char* op = "fold_batch_norm";
  const int64_t per_k = check_stored_norm(op, weight, norm);
  require_shape(op, "beta", norm.beta, norm.gamma.shape());
  require_shape(op, "folded_bias", folded_bias, norm.gamma.shape());
  require_shape(op, "folded_weight", folded_weight, weight.shape());
  return per_k;
}
template <MapType T>
int64_t check_fold_batch_norm_backward(View<const float> weight, const StoredNorm& norm, const FoldedGradients<T>& from,
                                       const UnfoldedGradients& to) {
  const char* op = "fold_batch_norm_backward";
  const int64_t per_k = check_stored_norm(op, weight, norm);
  require_shape(op, "grad_folded_bias", from.bias, norm.gamma.shape());
  require_shape(op, "grad_folded_weight", from.weight, weight.shape());
  if (to.weight.wanted()) {
    require_shape(op, "grad_weight", to.weight.grad, weight.shape());
    const void* const same = from.weight.data();
    require(!to.weight.adds() || to.weight.grad.data() != same, op,
            "cannot add to grad_weight, which is grad_folded_weight");
  }
  if (to.gamma.wanted()) require_shape(op, "grad_gamma", to.gamma.grad, norm.gamma.shape());
  if (to.beta.wanted()) require_shape(op, "grad_beta", to.beta.grad, norm.gamma.shape());
  return per_k;
}

}  // namespace gradlibra::kernels
