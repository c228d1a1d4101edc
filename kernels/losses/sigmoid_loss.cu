// SPDX-License-Identifier: MIT
// Sigmoid losses on the device. A thread owns four neighbouring entries, 16 bytes of logits and of gradients, whatever
// rows they are of: loads and stores are whole lines for any number of classes. Losses are added in double, per thread,
// per block, then over blocks, always in one order.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/divide.cuh"
#include "kernels/losses/class_balanced.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/eqlv2.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/sigmoid_loss.h"

namespace gradlibra::kernels {

namespace {

constexpr int kEntries = 4;  // of a thread

template <class Weight>
struct LossArgs {
  const float* logits;
  const int32_t* labels;
  const float* weights;
  const double* normalizer;
  float* grad_logits;
  double* partials;  // one per block
  int64_t R;
  int C;
  double loss_weight;
  Weight psi;
};

// Which entries a thread has, and what their rows say of them. Loaded before any is used, so that no load waits for
// another.
struct LossPack {
  Pack<kEntries> logits{};
  int classes[kEntries];
  int32_t labels[kEntries];
  float weights[kEntries];
};

template <class Weight>
__device__ LossPack load_pack(const LossArgs<Weight>& a, int64_t first, int count, bool whole) {
  LossPack p;
  if (whole) p.logits = load<kEntries>(a.logits + first);
  int64_t row = divide(first, a.C);
  int c = static_cast<int>(first - row * a.C);
#pragma unroll
  for (int k = 0; k < kEntries; ++k) {
    if (!whole && k < count) p.logits[k] = a.logits[first + k];
    p.classes[k] = c;
    p.labels[k] = k < count ? a.labels[row] : -1;
    p.weights[k] = k < count ? a.weights[row] : 0;
    if (++c == a.C) c = 0, ++row;
  }
  return p;
}

// vectors: logits and gradients lie on 16 bytes.
template <class Weight>
__global__ void __launch_bounds__(kBlock) sigmoid_loss_kernel(const LossArgs<Weight> a, bool vectors) {
  const int64_t entries = a.R * a.C, step = int64_t{gridDim.x} * kBlock * kEntries;
  const double scale = a.loss_weight / a.normalizer[0];
  double sum = 0;
  for (int64_t first = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * kEntries; first < entries; first += step) {
    const int count = entries - first < kEntries ? static_cast<int>(entries - first) : kEntries;
    const bool whole = vectors && count == kEntries;
    const LossPack p = load_pack(a, first, count, whole);
    Pack<kEntries> grad{};
#pragma unroll
    for (int k = 0; k < kEntries; ++k)
      if (p.weights[k] != 0 && p.labels[k] >= 0) {
        const Entry<float> entry = sigmoid_entry(p.logits[k], {p.labels[k], p.classes[k]}, a.psi);
        sum += double{p.weights[k]} * double{entry.loss};
        grad[k] = static_cast<float>(scale * double{p.weights[k]}) * entry.grad;
      }
    if (whole)
      store<kEntries>(a.grad_logits + first, grad);
    else
      for (int k = 0; k < count; ++k) a.grad_logits[first + k] = grad[k];
  }
  store_partial(sum, a.partials);
}

__global__ void sigmoid_kernel(const float* __restrict__ logits, float* __restrict__ scores, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const float z = logits[i], e = expf(-fabsf(z));
  scores[i] = (z >= 0 ? 1 : e) / (1 + e);
}

}  // namespace

template <class Loss>
void sigmoid_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace) {
  check_sigmoid_loss(logits, labels, weights, normalizer, loss, grad_logits, workspace);
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require(C <= std::numeric_limits<int>::max() - kBlock, "sigmoid_loss", "too many classes: " + std::to_string(C));
  const int64_t most = sigmoid_loss_workspace(R, C), needed = (R * C + kBlock * kEntries - 1) / (kBlock * kEntries);
  const int64_t blocks = std::min(most, needed);
  const auto psi = member.template weight<float>();
  using Weight = std::remove_const_t<decltype(psi)>;

  const bool any = R > 0 && C > 0;
  if (any) {
    const LossArgs<Weight> args = {.logits = logits.data(),
                                   .labels = labels.data(),
                                   .weights = weights.data(),
                                   .normalizer = normalizer.data(),
                                   .grad_logits = grad_logits.data(),
                                   .partials = workspace.data(),
                                   .R = R,
                                   .C = static_cast<int>(C),
                                   .loss_weight = loss_weight,
                                   .psi = psi};
    launch(sigmoid_loss_kernel<Weight>, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args,
           aligned(logits.data(), grad_logits.data()));
  }
  launch_loss_total(cuda, workspace, any ? blocks : 0, loss_weight, normalizer, loss);
}

void sigmoid(Cuda& cuda, View<const float> logits, View<float> scores) {
  require_shape("sigmoid", "scores", scores, logits.shape());
  if (logits.size() == 0) return;
  launch(sigmoid_kernel, blocks_for(logits.size(), kBlock), kBlock, 0, cuda.stream(), logits.data(), scores.data(),
         logits.size());
}

template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const CrossEntropy&,
                           double, View<const double>, View<double>, View<float>, View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const Focal&, double,
                           View<const double>, View<double>, View<float>, View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const GradLibra&, double,
                           View<const double>, View<double>, View<float>, View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>,
                           const ClassBalanced<CrossEntropy>&, double, View<const double>, View<double>, View<float>,
                           View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>,
                           const ClassBalanced<Focal>&, double, View<const double>, View<double>, View<float>,
                           View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const EqlV2&, double,
                           View<const double>, View<double>, View<float>, View<double>);

}  // namespace gradlibra::kernels
