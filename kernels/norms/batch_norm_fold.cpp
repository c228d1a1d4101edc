// SPDX-License-Identifier: MIT
// Batch norm folded into a convolution on the host: one output channel at a time.
#include "kernels/norms/batch_norm_fold.h"

#include <cmath>

#include "kernels/parallel.h"

namespace gradlibra::kernels {
namespace {

// Output channels per task, at least 32 Ki weights.
int64_t grain(int64_t per_k) { return 32768 / (per_k + 1) + 1; }

}  // namespace

template <MapType T>
void fold_batch_norm(Cpu& cpu, View<const float> weight, const StoredNorm& norm, View<T> folded_weight,
                     View<T> folded_bias) {
  const int64_t per_k = check_fold_batch_norm(weight, norm, folded_weight, folded_bias);
  parallel_for(cpu, norm.gamma.size(), grain(per_k), [&](int64_t k) {
    const float s = norm.gamma[k] / std::sqrt(norm.var[k] + norm.eps);
    const float* from = weight.data() + k * per_k;
    T* to = folded_weight.data() + k * per_k;
#pragma omp simd
    for (int64_t i = 0; i < per_k; ++i) to[i] = from_float<T>(s * from[i]);
    // In double the product is exact, fused into the difference or not.
    folded_bias[k] = from_float<T>(static_cast<float>(static_cast<double>(norm.beta[k]) -
                                                      static_cast<double>(norm.mean[k]) * static_cast<double>(s)));
  });
}

template <MapType T>
void fold_batch_norm_backward(Cpu& cpu, View<const float> weight, const StoredNorm& norm,
                              const FoldedGradients<T>& from, const UnfoldedGradients& to) {
  const int64_t per_k = check_fold_batch_norm_backward(weight, norm, from, to);
  parallel_for(cpu, norm.gamma.size(), grain(per_k), [&](int64_t k) {
    const float root = std::sqrt(norm.var[k] + norm.eps), s = norm.gamma[k] / root;
    const float* w = weight.data() + k * per_k;
    const T* g = from.weight.data() + k * per_k;
    if (to.gamma.wanted()) {  // before grad_weight, which may be the same memory as g
      double dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < per_k; ++i) dot += static_cast<double>(w[i]) * static_cast<double>(to_float(g[i]));
      const double centered = dot - static_cast<double>(norm.mean[k]) * static_cast<double>(from.bias[k]);
      const double old = to.gamma.adds() ? static_cast<double>(to.gamma.grad[k]) : 0.0;
      to.gamma.grad[k] = static_cast<float>(old + centered / static_cast<double>(root));
    }
    if (to.beta.wanted()) to.beta.grad[k] = from.bias[k] + (to.beta.adds() ? to.beta.grad[k] : 0.0f);
    if (!to.weight.wanted()) return;
    float* out = to.weight.grad.data() + k * per_k;
    if (to.weight.adds()) {  // NOLINT(bugprone-branch-clone): it does not look into OpenMP's loops
#pragma omp simd
      for (int64_t i = 0; i < per_k; ++i) out[i] += s * to_float(g[i]);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < per_k; ++i) out[i] = s * to_float(g[i]);
    }
  });
}

template void fold_batch_norm(Cpu&, View<const float>, const StoredNorm&, View<float>, View<float>);
template void fold_batch_norm_backward(Cpu&, View<const float>, const StoredNorm&, const FoldedGradients<float>&,
                                       const UnfoldedGradients&);

template void fold_batch_norm(Cpu&, View<const float>, const StoredNorm&, View<bfloat16>, View<bfloat16>);
template void fold_batch_norm_backward(Cpu&, View<const float>, const StoredNorm&, const FoldedGradients<bfloat16>&,
                                       const UnfoldedGradients&);

}  // namespace gradlibra::kernels
