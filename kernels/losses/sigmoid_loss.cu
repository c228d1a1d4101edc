// SPDX-License-Identifier: MIT
// Sigmoid losses on the device. A thread owns four neighbouring entries at a time, 16 bytes of logits and of gradients,
// whatever rows they are of: loads and stores are whole lines for any number of classes. Losses are added in double,
// per thread, per block, then over blocks, always in one order.
//
// Arithmetic is what limits this kernel: 9 bytes of memory come with each entry, and an exponential, a logarithm and a
// reciprocal. Entries are therefore evaluated without a branch, by forms that hold for the arguments that occur.
#include <algorithm>
#include <cfloat>
#include <limits>
#include <type_traits>

#include "kernels/losses/class_balanced.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/eqlv2.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/sigmoid_loss.h"

namespace gradlibra::kernels {

namespace {

constexpr int kEntries = 4;                 // of a thread at a time
constexpr int kBlocks = 6;                  // that share a multiprocessor
constexpr int kMostBlocks = kBlocks * 132;  // as many as the largest card in mind holds at once

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
  int64_t step_rows;  // from a thread's entries to its next ones: whole rows, and channels beside them
  int step_channels;
  double loss_weight;
  Weight psi;
};

// A member whose psi is constant for the gradient: nothing is worked out for a slope.
template <class Weight>
struct HeldConstant {
  Weight weight;
  __device__ float psi(float g, EntryPlace place) const { return weight.psi(g, place); }
};

// Focal loss of gamma = 2, without the way to any other.
struct SquaredFocal {
  Focal::Weight<float> weight;
  __device__ float psi(float g, EntryPlace place) const {
    return (place.positive() ? weight.balance[1] : weight.balance[0]) * (g * g);
  }
  __device__ float slope(float, float psi, EntryPlace) const { return 2 * psi; }
};

template <class Weight>
constexpr bool kHasSlope = true;
template <class Weight>
constexpr bool kHasSlope<HeldConstant<Weight>> = false;

// 1 / v for v in [1, 2], or NaN: to the last bit or the one before it. A division cares for all other values, too.
__device__ float reciprocal_of_1_to_2(float v) {
#ifdef __CUDA_ARCH__
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r + r * (1 - v * r);
#else
  return 1 / v;
#endif
}

// log(1 + e) for e in [0, 1], or NaN: e times a polynomial, the best of its degree (3.4e-8 relative).
__device__ float log1p_of_0_to_1(float e) {
  float p = 5.1261021e-3f;
  p = p * e - 2.90740647e-2f;
  p = p * e + 7.75160867e-2f;
  p = p * e - 0.136022476f;
  p = p * e + 0.190768807f;
  p = p * e - 0.24835399f;
  p = p * e + 0.333181217f;
  p = p * e - 0.49999445f;
  p = p * e + 0.999999966f;
  return p * e;
}

// As sigmoid_entry, within a few roundings.
template <class Weight>
__device__ Entry<float> device_entry(float logit, EntryPlace place, const Weight& weight) {
  const bool positive = place.positive();
  const float t = positive ? -logit : logit;
  const float e = expf(-fabsf(t));
  const float larger = reciprocal_of_1_to_2(1 + e), smaller = e * larger;
  const float g = t >= 0 ? larger : smaller;
  const float ce = (t > 0 ? t : 0) + log1p_of_0_to_1(e);
  const float psi = weight.psi(g, place);
  float grad_t = g * psi;
  if constexpr (kHasSlope<Weight>) {
    const float one_minus_g = t >= 0 ? smaller : larger;
    grad_t += weight.slope(g, psi, place) * (one_minus_g * (ce > FLT_MAX ? FLT_MAX : ce));
  }
  return {psi * ce, positive ? -grad_t : grad_t};
}

// What a thread's entries need to know of a row. One that is left out counts as background of weight 0.
struct LossRow {
  int32_t label = 0;
  float weight = 0;
};

template <class Weight>
__device__ LossRow row_at(const LossArgs<Weight>& a, int64_t row) {
  LossRow r{a.labels[row], a.weights[row]};
  if (r.weight == 0 || r.label < 0) r = {a.C, 0};
  return r;
}

// Logits of a thread's V entries, of which `left` > 0 are there; 0 for the others.
template <int V>
__device__ Pack<V> load_entries(const float* logits, int64_t left) {
  if (left >= V) return load<V>(logits);
  Pack<V> z{};
#pragma unroll
  for (int k = 0; k < V - 1; ++k)
    if (k < left) z[k] = logits[k];
  return z;
}

template <int V>
__device__ void store_entries(float* grad_logits, const Pack<V>& grad, int64_t left) {
  if (left >= V) {
    store<V>(grad_logits, grad);
  } else {
#pragma unroll
    for (int k = 0; k < V - 1; ++k)
      if (k < left) grad_logits[k] = grad[k];
  }
}

// V entries at a time: 4, where logits and gradients lie on 16 bytes and a row has at least as many, so that a thread
// meets one row and the next, or 1.
template <class Weight, int V>
__global__ void __launch_bounds__(kBlock, kBlocks) sigmoid_loss_kernel(const LossArgs<Weight> a) {
  const int64_t entries = a.R * a.C, step = int64_t{gridDim.x} * (kBlock * V);
  const unsigned first = (blockIdx.x * kBlock + threadIdx.x) * V;
  int64_t row = first / static_cast<unsigned>(a.C);
  int channel = static_cast<int>(first - static_cast<unsigned>(row) * static_cast<unsigned>(a.C));
  const auto scale = static_cast<float>(a.loss_weight / a.normalizer[0]);
  double sum = 0;
  for (int64_t at = first; at < entries; at += step) {
    const Pack<V> logits = load_entries<V>(a.logits + at, entries - at);
    const LossRow upper = row_at(a, row);
    const LossRow lower = V > 1 && channel + V > a.C && row + 1 < a.R ? row_at(a, row + 1) : LossRow{a.C, 0};
    Pack<V> grad;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const bool below = V > 1 && channel + k >= a.C;
      const EntryPlace place{below ? lower.label : upper.label, channel + k - (below ? a.C : 0)};
      const float weight = below ? lower.weight : upper.weight;
      const Entry<float> entry = device_entry(logits[k], place, a.psi);
      sum += static_cast<double>(weight != 0 ? weight * entry.loss : 0);
      grad[k] = weight != 0 ? scale * weight * entry.grad : 0;
    }
    store_entries<V>(a.grad_logits + at, grad, entries - at);
    row += a.step_rows;
    channel += a.step_channels;
    if (channel >= a.C) channel -= a.C, ++row;
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

namespace {

// Calls body(weight) with the member's weight as the kernel wants it.
template <class Loss, class Body>
void with_weight(const Loss& member, Body body) {
  const auto weight = member.template weight<float>();
  if constexpr (std::is_same_v<Loss, CrossEntropy> || std::is_same_v<Loss, EqlV2>)
    body(HeldConstant<std::remove_const_t<decltype(weight)>>{weight});
  else if constexpr (std::is_same_v<Loss, GradLibra>)
    weight.full ? body(weight) : body(HeldConstant<std::remove_const_t<decltype(weight)>>{weight});
  else if constexpr (std::is_same_v<Loss, Focal>)
    weight.gamma == 2 ? body(SquaredFocal{weight}) : body(weight);
  else
    body(weight);
}

}  // namespace

template <class Loss>
void sigmoid_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, const LossSum& out) {
  check_sigmoid_loss(logits, labels, weights, out);
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require(C <= std::numeric_limits<int>::max() / 2, "sigmoid_loss", "too many classes: " + std::to_string(C));
  const bool packs = C >= kEntries && aligned(logits.data(), out.grad.data());
  const int64_t per_block = int64_t{kBlock} * (packs ? kEntries : 1);
  const int64_t blocks =
      std::min({int64_t{kMostBlocks}, sigmoid_loss_workspace(R, C), (R * C + per_block - 1) / per_block});
  const bool any = R > 0 && C > 0;
  with_weight(member, [&](const auto& weight) {
    using Weight = std::remove_cvref_t<decltype(weight)>;
    if (!any) return;
    const LossArgs<Weight> args = {.logits = logits.data(),
                                   .labels = labels.data(),
                                   .weights = weights.data(),
                                   .normalizer = out.normalizer.data(),
                                   .grad_logits = out.grad.data(),
                                   .partials = out.workspace.data(),
                                   .R = R,
                                   .C = static_cast<int>(C),
                                   .step_rows = blocks * per_block / C,
                                   .step_channels = static_cast<int>(blocks * per_block % C),
                                   .loss_weight = out.weight,
                                   .psi = weight};
    launch(packs ? sigmoid_loss_kernel<Weight, kEntries> : sigmoid_loss_kernel<Weight, 1>,
           static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  });
  launch_loss_total(cuda, out.workspace, any ? blocks : 0, out.weight, out.normalizer, out.loss);
}

void sigmoid(Cuda& cuda, View<const float> logits, View<float> scores) {
  require_shape("sigmoid", "scores", scores, logits.shape());
  if (logits.size() == 0) return;
  launch(sigmoid_kernel, blocks_for(logits.size(), kBlock), kBlock, 0, cuda.stream(), logits.data(), scores.data(),
         logits.size());
}

template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const CrossEntropy&,
                           const LossSum&);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const Focal&,
                           const LossSum&);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const GradLibra&,
                           const LossSum&);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>,
                           const ClassBalanced<CrossEntropy>&, const LossSum&);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>,
                           const ClassBalanced<Focal>&, const LossSum&);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const EqlV2&,
                           const LossSum&);

}  // namespace gradlibra::kernels
