// SPDX-License-Identifier: MIT
// Batch norm folded into a convolution on the device. A block owns one output channel k: its weights are few thousand,
// and their inner product with the gradient then needs one block and no workspace.
#include "kernels/block_sum.cuh"
#include "kernels/launch.h"
#include "kernels/norms/batch_norm_fold.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

struct Norm {
  const float *gamma, *mean, *var;
  float eps;
  __device__ float root(int64_t k) const { return sqrtf(var[k] + eps); }
};

template <class T>
__global__ void fold_batch_norm_kernel(const float* __restrict__ weight, const Norm norm,
                                       const float* __restrict__ beta, int64_t per_k, bool vectors,
                                       T* __restrict__ folded_weight, T* __restrict__ folded_bias) {
  const int64_t k = blockIdx.x;
  const float s = norm.gamma[k] / norm.root(k);
  for_each_pack<kPack<T>>(per_k, vectors, threadIdx.x, blockDim.x, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> w = load<V>(weight + k * per_k + i);
    for (int j = 0; j < V; ++j) w[j] *= s;
    store<V>(folded_weight + k * per_k + i, w);
  });
  if (threadIdx.x == 0)  // in double the product is exact, fused into the difference or not
    folded_bias[k] = from_float<T>(
        static_cast<float>(static_cast<double>(beta[k]) - static_cast<double>(norm.mean[k]) * static_cast<double>(s)));
}

// Pointers of outputs that are left out are null. grad_weight may be grad_folded_weight: a thread reads an element
// before it writes it, and no other thread reads it.
template <class T>
struct Backward {
  const float* weight;
  const T* grad_folded_weight;
  const float* grad_folded_bias;
  float *grad_weight, *grad_gamma, *grad_beta;
  bool add_weight, add_gamma, add_beta;
};

template <class T>
__global__ void fold_batch_norm_backward_kernel(const Backward<T> b, const Norm norm, int64_t per_k, bool vectors) {
  const int64_t k = blockIdx.x;
  const float root = norm.root(k), s = norm.gamma[k] / root;
  double dot = 0;
  for_each_pack<kPack<T>>(per_k, vectors, threadIdx.x, blockDim.x, [&](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> g = load<V>(b.grad_folded_weight + k * per_k + i);
    if (b.grad_gamma != nullptr) {
      const Pack<V> w = load<V>(b.weight + k * per_k + i);
      for (int j = 0; j < V; ++j) dot += static_cast<double>(w[j]) * static_cast<double>(g[j]);
    }
    if (b.grad_weight == nullptr) return;
    for (int j = 0; j < V; ++j) g[j] *= s;
    store<V>(b.grad_weight + k * per_k + i, g, b.add_weight);
  });
  dot = block_sum(dot);
  if (threadIdx.x != 0) return;
  const float bias = b.grad_folded_bias[k];
  if (b.grad_gamma != nullptr) {
    const double centered = dot - static_cast<double>(norm.mean[k]) * static_cast<double>(bias);
    const double old = b.add_gamma ? static_cast<double>(b.grad_gamma[k]) : 0.0;
    b.grad_gamma[k] = static_cast<float>(old + centered / static_cast<double>(root));
  }
  if (b.grad_beta != nullptr) b.grad_beta[k] = bias + (b.add_beta ? b.grad_beta[k] : 0.0f);
}

Norm norm_of(const StoredNorm& norm) { return {norm.gamma.data(), norm.mean.data(), norm.var.data(), norm.eps}; }

}  // namespace

template <MapType T>
void fold_batch_norm(Cuda& cuda, View<const float> weight, const StoredNorm& norm, View<T> folded_weight,
                     View<T> folded_bias) {
  const int64_t per_k = check_fold_batch_norm(weight, norm, folded_weight, folded_bias);
  if (norm.gamma.size() == 0) return;
  const bool vectors = per_k % kPack<T> == 0 && aligned(weight.data(), folded_weight.data());
  launch(fold_batch_norm_kernel<T>, static_cast<unsigned>(norm.gamma.size()), kBlock, 0, cuda.stream(), weight.data(),
         norm_of(norm), norm.beta.data(), per_k, vectors, folded_weight.data(), folded_bias.data());
}

template <MapType T>
void fold_batch_norm_backward(Cuda& cuda, View<const float> weight, const StoredNorm& norm,
                              const FoldedGradients<T>& from, const UnfoldedGradients& to) {
  const int64_t per_k = check_fold_batch_norm_backward(weight, norm, from, to);
  if (norm.gamma.size() == 0) return;
  const bool vectors =
      per_k % kPack<T> == 0 && aligned(weight.data(), to.weight.grad.data()) && aligned(from.weight.data());
  const Backward<T> backward{weight.data(),         from.weight.data(),   from.bias.data(),
                             to.weight.grad.data(), to.gamma.grad.data(), to.beta.grad.data(),
                             to.weight.adds(),      to.gamma.adds(),      to.beta.adds()};
  launch(fold_batch_norm_backward_kernel<T>, static_cast<unsigned>(norm.gamma.size()), kBlock, 0, cuda.stream(),
         backward, norm_of(norm), per_k, vectors);
}

template void fold_batch_norm(Cuda&, View<const float>, const StoredNorm&, View<float>, View<float>);
template void fold_batch_norm_backward(Cuda&, View<const float>, const StoredNorm&, const FoldedGradients<float>&,
                                       const UnfoldedGradients&);

template void fold_batch_norm(Cuda&, View<const float>, const StoredNorm&, View<bfloat16>, View<bfloat16>);
template void fold_batch_norm_backward(Cuda&, View<const float>, const StoredNorm&, const FoldedGradients<bfloat16>&,
                                       const UnfoldedGradients&);

}  // namespace gradlibra::kernels
