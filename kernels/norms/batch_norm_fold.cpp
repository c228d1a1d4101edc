// SPDX-License-Identifier: MIT
// Batch norm folded into a convolution on the host: one output channel at a time.
#include "kernels/norms/batch_norm_fold.h"

#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {
namespace {

// (K) views of either direction; returns the number of weights per k.
int64_t check_channels(const char* op, View<const float> weight,
                       std::initializer_list<std::pair<const char*, View<const float>>> channels) {
  require(weight.rank() >= 1, op, "weight has shape () instead of (K, ...)");
  const int64_t K = weight.dim(0);
  for (const auto& [name, view] : channels) require_shape(op, name, view, {K});
  return K == 0 ? 0 : weight.size() / K;
}

// Output channels per task, at least 32 Ki weights.
int64_t grain(int64_t per_k) { return 32768 / (per_k + 1) + 1; }

}  // namespace

int64_t check_fold_batch_norm(View<const float> weight, View<const float> gamma, View<const float> beta,
                              View<const float> mean, View<const float> var, const Shape& folded_weight,
                              const Shape& folded_bias) {
  const char* op = "fold_batch_norm";
  const int64_t per_k = check_channels(op, weight, {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"var", var}});
  require_shape(op, "folded_bias", folded_bias, gamma.shape());
  require_shape(op, "folded_weight", folded_weight, weight.shape());
  return per_k;
}

int64_t check_fold_batch_norm_backward(View<const float> weight, View<const float> gamma, View<const float> mean,
                                       View<const float> var, const void* grad_folded_weight,
                                       const Shape& grad_folded_weight_shape, View<const float> grad_folded_bias,
                                       View<float> grad_weight, Accumulate mode_weight, View<float> grad_gamma,
                                       View<float> grad_beta) {
  const char* op = "fold_batch_norm_backward";
  const int64_t per_k = check_channels(
      op, weight, {{"gamma", gamma}, {"mean", mean}, {"var", var}, {"grad_folded_bias", grad_folded_bias}});
  require_shape(op, "grad_folded_weight", grad_folded_weight_shape, weight.shape());
  if (grad_weight.data() != nullptr) {
    require_shape(op, "grad_weight", grad_weight, weight.shape());
    require(mode_weight == Accumulate::overwrite || grad_weight.data() != grad_folded_weight, op,
            "cannot add to grad_weight, which is grad_folded_weight");
  }
  if (grad_gamma.data() != nullptr) require_shape(op, "grad_gamma", grad_gamma, gamma.shape());
  if (grad_beta.data() != nullptr) require_shape(op, "grad_beta", grad_beta, gamma.shape());
  return per_k;
}

template <MapType T>
void fold_batch_norm(Cpu& cpu, View<const float> weight, View<const float> gamma, View<const float> beta,
                     View<const float> mean, View<const float> var, float eps, View<T> folded_weight,
                     View<T> folded_bias) {
  const int64_t per_k =
      check_fold_batch_norm(weight, gamma, beta, mean, var, folded_weight.shape(), folded_bias.shape());
  parallel_for(cpu, gamma.size(), grain(per_k), [&](int64_t k) {
    const float s = gamma[k] / std::sqrt(var[k] + eps);
    const float* from = weight.data() + k * per_k;
    T* to = folded_weight.data() + k * per_k;
#pragma omp simd
    for (int64_t i = 0; i < per_k; ++i) to[i] = from_float<T>(s * from[i]);
    // In double the product is exact, fused into the difference or not.
    folded_bias[k] = from_float<T>(
        static_cast<float>(static_cast<double>(beta[k]) - static_cast<double>(mean[k]) * static_cast<double>(s)));
  });
}

template <MapType T>
void fold_batch_norm_backward(Cpu& cpu, View<const float> weight, View<const float> gamma, View<const float> mean,
                              View<const float> var, float eps, In<T> grad_folded_weight,
                              View<const float> grad_folded_bias, View<float> grad_weight, Accumulate mode_weight,
                              View<float> grad_gamma, Accumulate mode_gamma, View<float> grad_beta,
                              Accumulate mode_beta) {
  const int64_t per_k =
      check_fold_batch_norm_backward(weight, gamma, mean, var, grad_folded_weight.data(), grad_folded_weight.shape(),
                                     grad_folded_bias, grad_weight, mode_weight, grad_gamma, grad_beta);
  parallel_for(cpu, gamma.size(), grain(per_k), [&](int64_t k) {
    const float root = std::sqrt(var[k] + eps), s = gamma[k] / root;
    const float* w = weight.data() + k * per_k;
    const T* g = grad_folded_weight.data() + k * per_k;
    if (grad_gamma.data() != nullptr) {  // before grad_weight, which may be the same memory as g
      double dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < per_k; ++i) dot += static_cast<double>(w[i]) * static_cast<double>(to_float(g[i]));
      const double centered = dot - static_cast<double>(mean[k]) * static_cast<double>(grad_folded_bias[k]);
      const double old = mode_gamma == Accumulate::add ? static_cast<double>(grad_gamma[k]) : 0.0;
      grad_gamma[k] = static_cast<float>(old + centered / static_cast<double>(root));
    }
    if (grad_beta.data() != nullptr)
      grad_beta[k] = grad_folded_bias[k] + (mode_beta == Accumulate::add ? grad_beta[k] : 0.0f);
    if (grad_weight.data() == nullptr) return;
    float* out = grad_weight.data() + k * per_k;
    if (mode_weight == Accumulate::add) {
#pragma omp simd
      for (int64_t i = 0; i < per_k; ++i) out[i] += s * to_float(g[i]);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < per_k; ++i) out[i] = s * to_float(g[i]);
    }
  });
}

template void fold_batch_norm(Cpu&, View<const float>, View<const float>, View<const float>, View<const float>,
                              View<const float>, float, View<float>, View<float>);
template void fold_batch_norm(Cpu&, View<const float>, View<const float>, View<const float>, View<const float>,
                              View<const float>, float, View<bfloat16>, View<bfloat16>);
template void fold_batch_norm_backward<float>(Cpu&, View<const float>, View<const float>, View<const float>,
                                              View<const float>, float, View<const float>, View<const float>,
                                              View<float>, Accumulate, View<float>, Accumulate, View<float>,
                                              Accumulate);
template void fold_batch_norm_backward<bfloat16>(Cpu&, View<const float>, View<const float>, View<const float>,
                                                 View<const float>, float, View<const bfloat16>, View<const float>,
                                                 View<float>, Accumulate, View<float>, Accumulate, View<float>,
                                                 Accumulate);

}  // namespace gradlibra::kernels
