// SPDX-License-Identifier: MIT
// Sigmoid losses on the device. A thread owns four neighbouring entries at a time, 16 bytes of logits and of gradients,
// whatever rows they are of: loads and stores are whole lines for any number of classes. Losses are added in double
// (four of them in float where they are evaluated together), per thread, per block, then over blocks, always in one
// order.
//
// Arithmetic is what limits this kernel: 9 bytes of memory come with each entry, and an exponential, a logarithm and a
// reciprocal. But nearly all entries of a dense head are negative ones in rows of one weight. So a warp first looks at
// its entries together: if all are such, they are evaluated without a choice, by forms that hold for finite logits, in
// some 45 instructions an entry (Grad-Libra, sm_90) instead of 70. What comes out infinite or NaN is evaluated again.
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

constexpr int kEntries = 4;  // of a thread at a time
constexpr unsigned kWarp = 32, kAllLanes = 0xffffffffu;
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
  int64_t entries;
  int R, C;
  int step_rows, step_channels;  // from a thread's entries to its next ones: whole rows, and channels beside them
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

// Grad-Libra held constant, with a shorter polynomial for g - sin g than Taylor's (3.3e-8 relative, half a rounding).
struct ShortGradLibra {
  GradLibra::Weight<float> weight;
  __device__ float psi(float g, EntryPlace place) const {
    const float x = g * g;
    float q = -2.70606688e-6f;
    q = q * x + 1.98381749e-4f;
    q = q * x - 8.33332725e-3f;
    q = q * x + 0.166666672f;
    return g * (weight.at(weight.alpha, place) * (x * q) + weight.at(weight.one_minus_alpha, place)) +
           weight.at(weight.base, place);
  }
};

template <class Weight>
constexpr bool kHasSlope = true;
template <class Weight>
constexpr bool kHasSlope<HeldConstant<Weight>> = false;
template <>
constexpr bool kHasSlope<ShortGradLibra> = false;

// 1 / v for v in [1, 2], or NaN: to the last bit or the one before it. A division cares for all other values, too.
__device__ float reciprocal_of_1_to_2(float v) {
#ifdef __CUDA_ARCH__
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return 1 / v;
#endif
}

// exp(-x) for x in [0, 2e38]: what the argument of exp2 loses by its own rounding and by that of log2(e) is put back,
// so that two roundings are added to the unit's error. 0 below 2^-126. NaN for larger x, such as infinity: expf, which
// takes that, too, needs two instructions more.
__device__ float exp_of_minus(float x) {
  constexpr float kLog2E = 1.44269502f, kLog2ERest = 1.92596303e-8f, kLn2 = 0.693147181f;
  const float power = x * kLog2E, lost = fmaf(x, kLog2ERest, fmaf(x, kLog2E, -power));
#ifdef __CUDA_ARCH__
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(-power));
#else
  const float e = std::exp2(-power);
#endif
  return fmaf(e, -kLn2 * lost, e);
}

// log(1 + e) for e in [0, 1], or NaN: e times a polynomial, nearly the best of its degree (6.8e-8 relative).
__device__ float log1p_of_0_to_1(float e) {
  float p = 5.1261021e-3f;
  p = p * e - 2.90740647e-2f;
  p = p * e + 7.75160867e-2f;
  p = p * e - 0.136022476f;
  p = p * e + 0.190768807f;
  p = p * e - 0.24835399f;
  p = p * e + 0.333181217f;
  p = p * e - 0.49999445f;
  p = p * e + 1;
  return p * e;
}

// As sigmoid_entry, within a few roundings. kPlain: for a negative entry; NaN for an infinite logit.
template <bool kPlain, class Weight>
__device__ Entry<float> device_entry(float logit, EntryPlace place, const Weight& weight) {
  const bool positive = !kPlain && place.positive();
#ifdef __CUDA_ARCH__
  if constexpr (kPlain) __builtin_assume(!place.positive());  // for what the member chooses by it
#endif
  const float t = positive ? -logit : logit;
  const float e = kPlain ? exp_of_minus(fabsf(t)) : expf(-fabsf(t));
  const float larger = reciprocal_of_1_to_2(1 + e), smaller = e * larger;
  const float g = t >= 0 ? larger : smaller;
  const float ce = (t > 0 ? t : 0) + log1p_of_0_to_1(e);
  const float psi = weight.psi(g, place);
  float grad_t = g * psi;
  if constexpr (kHasSlope<Weight>) {
    const float one_minus_g = t >= 0 ? smaller : larger;
    grad_t += weight.slope(g, psi, place) * (one_minus_g * (!kPlain && ce > FLT_MAX ? FLT_MAX : ce));
  }
  return {psi * ce, positive ? -grad_t : grad_t};
}

// What a thread needs to know of V entries: where in a row they begin, and of that row and, if they reach into it, the
// next.
struct Rows {
  int channel;
  int label, label_below;
  float weight, weight_below;
};

// All V entries are there: if they reach into the next row, there is one.
template <int V, class Weight>
__device__ Rows rows_at(const LossArgs<Weight>& a, int row, int channel) {
  Rows r{channel, a.labels[row], a.C, a.weights[row], 0};
  r.weight_below = r.weight;
  if (V > 1 && channel + V > a.C) r.label_below = a.labels[row + 1], r.weight_below = a.weights[row + 1];
  return r;
}

// Are all V entries negative, and do they count the same, be it 0?
template <int V>
__device__ bool all_plain(const Rows& r, int C) {
  const int left = C - r.channel;  // of the first row
  const bool positive = static_cast<unsigned>(r.label - r.channel) < static_cast<unsigned>(left < V ? left : V);
  const bool positive_below = r.label_below < V - left;
  return r.weight == r.weight_below && (r.label | r.label_below) >= 0 && !positive && !positive_below;
}

// Adds up the weighted losses of V entries that are all_plain, and writes their gradients. False, and `sum` as it was,
// if their sum in float is infinite or NaN.
template <int V, class Weight>
__device__ bool evaluate_plain(const LossArgs<Weight>& a, const Rows& r, float scale, const Pack<V>& logits,
                               double& sum, Pack<V>& grad) {
  float loss = 0;
  const float factor = scale * r.weight;
#pragma unroll
  for (int k = 0; k < V; ++k) {
    const bool below = V > 1 && r.channel + k >= a.C;
    const EntryPlace place{below ? r.label_below : r.label, r.channel + k - (below ? a.C : 0)};
    const Entry<float> entry = device_entry<true>(logits[k], place, a.psi);
    loss += entry.loss;
    grad[k] = factor * entry.grad;
  }
  loss *= r.weight;
  if (!(fabsf(loss) <= FLT_MAX)) return false;
  sum += static_cast<double>(loss);
  return true;
}

// The same for V entries of any kind. Those of a row that is left out count as background of weight 0.
template <int V, class Weight>
__device__ void evaluate_each(const LossArgs<Weight>& a, const Rows& r, float scale, const Pack<V>& logits, double& sum,
                              Pack<V>& grad) {
#pragma unroll
  for (int k = 0; k < V; ++k) {
    const bool below = V > 1 && r.channel + k >= a.C;
    int label = below ? r.label_below : r.label;
    float weight = below ? r.weight_below : r.weight;
    if (weight == 0 || label < 0) label = a.C, weight = 0;
    const Entry<float> entry = device_entry<false>(logits[k], {label, r.channel + k - (below ? a.C : 0)}, a.psi);
    sum += static_cast<double>(weight != 0 ? weight * entry.loss : 0);
    grad[k] = weight != 0 ? scale * weight * entry.grad : 0;
  }
}

// V entries at a time: 4, where logits and gradients lie on 16 bytes and a row has at least as many, so that a thread
// meets one row and the next, or 1.
template <class Weight, int V>
__global__ void __launch_bounds__(kBlock, kBlocks) sigmoid_loss_kernel(const LossArgs<Weight> a) {
  const auto packs = static_cast<unsigned>(a.entries / (V * kWarp) * kWarp);  // for whole warps
  const unsigned thread = blockIdx.x * kBlock + threadIdx.x;
  // The first entries are asked for before anything that must be waited for, hence without a branch: a thread that has
  // none asks for others, which are there.
  unsigned pack = packs > 0 ? min(thread, packs - 1) : 0;
  int row = static_cast<int>(pack * V / static_cast<unsigned>(a.C));
  int channel = static_cast<int>(pack * V % static_cast<unsigned>(a.C));
  Pack<V> logits = load<V>(a.logits + static_cast<int64_t>(pack) * V);
  Rows rows = rows_at<V>(a, row, channel);
  const auto scale = static_cast<float>(a.loss_weight / a.normalizer[0]);
  double sum = 0;
  for (pack = thread; pack < packs;) {
    Pack<V> grad;
    // A warp takes one way or the other: both would take longer than the one for all.
    if (!__all_sync(kAllLanes, all_plain<V>(rows, a.C)) || !evaluate_plain<V>(a, rows, scale, logits, sum, grad))
      evaluate_each<V>(a, rows, scale, logits, sum, grad);
    store<V>(a.grad_logits + static_cast<int64_t>(pack) * V, grad);
    pack += gridDim.x * kBlock;
    if (pack >= packs) break;
    row += a.step_rows;
    channel += a.step_channels;
    if (channel >= a.C) channel -= a.C, ++row;
    logits = load<V>(a.logits + static_cast<int64_t>(pack) * V);
    rows = rows_at<V>(a, row, channel);
  }
  // The last entries, fewer than a warp's, one a thread.
  if (const int64_t at = static_cast<int64_t>(packs) * V + thread; at < a.entries) {
    const int behind = static_cast<int>(a.entries - at) - 1;
    const Rows last = rows_at<1>(a, a.R - 1 - behind / a.C, a.C - 1 - behind % a.C);
    Pack<1> grad;
    evaluate_each<1>(a, last, scale, load<1>(a.logits + at), sum, grad);
    store<1>(a.grad_logits + at, grad);
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
    weight.full ? body(weight) : body(ShortGradLibra{weight});
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
  const bool packs = C >= kEntries && aligned(logits.data(), out.grad.data());
  const int64_t V = packs ? kEntries : 1, per_block = kBlock * V;
  constexpr int64_t kMost = std::numeric_limits<int>::max() / 2;  // the kernel counts in 32 bits, a step further, too
  require(R <= kMost && C <= kMost && R * C / V <= kMost, "sigmoid_loss",
          "too many logits: " + logits.shape().to_string());
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
                                   .entries = R * C,
                                   .R = static_cast<int>(R),
                                   .C = static_cast<int>(C),
                                   .step_rows = static_cast<int>(blocks * per_block / C),
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
