// SPDX-License-Identifier: MIT
// Temporary, to be measured beside what replaced it and then to be deleted with sigmoid_loss_before: the sigmoid loss
// kernel as it was, with the weight of Grad-Libra as it was.
#pragma once

#include <limits>

#include "kernels/divide.cuh"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/sigmoid_loss.h"

namespace gradlibra::kernels {

namespace {

struct GradLibraBefore {
  bool full;
  bool off[2];
  float alpha[2], one_minus_alpha[2];
  GRADLIBRA_HOST_DEVICE float psi(float g, EntryPlace place) const {
    const bool side = place.positive();
    return off[side] ? 1 : one_minus_alpha[side] * g + alpha[side] * g_minus_sin(g);
  }
  GRADLIBRA_HOST_DEVICE float slope(float g, float, EntryPlace place) const {
    const bool side = place.positive();
    if (!full || off[side]) return 0;
    const float sin_half = g / 2 - g_minus_sin(g / 2);
    return g * (one_minus_alpha[side] + 2 * alpha[side] * sin_half * sin_half);
  }
};

constexpr int kEntriesBefore = 4;  // of a thread

template <class Weight>
struct ArgsBefore {
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
struct PackBefore {
  Pack<kEntriesBefore> logits{};
  int classes[kEntriesBefore];
  int32_t labels[kEntriesBefore];
  float weights[kEntriesBefore];
};

template <class Weight>
__device__ PackBefore load_pack(const ArgsBefore<Weight>& a, int64_t first, int count, bool whole) {
  PackBefore p;
  if (whole) p.logits = load<kEntriesBefore>(a.logits + first);
  int64_t row = divide(first, a.C);
  int c = static_cast<int>(first - row * a.C);
#pragma unroll
  for (int k = 0; k < kEntriesBefore; ++k) {
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
__global__ void __launch_bounds__(kBlock) sigmoid_loss_before_kernel(const ArgsBefore<Weight> a, bool vectors) {
  const int64_t entries = a.R * a.C, step = int64_t{gridDim.x} * kBlock * kEntriesBefore;
  const double scale = a.loss_weight / a.normalizer[0];
  double sum = 0;
  for (int64_t first = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * kEntriesBefore; first < entries; first += step) {
    const int count = entries - first < kEntriesBefore ? static_cast<int>(entries - first) : kEntriesBefore;
    const bool whole = vectors && count == kEntriesBefore;
    const PackBefore p = load_pack(a, first, count, whole);
    Pack<kEntriesBefore> grad{};
#pragma unroll
    for (int k = 0; k < kEntriesBefore; ++k)
      if (p.weights[k] != 0 && p.labels[k] >= 0) {
        const Entry<float> entry = sigmoid_entry(p.logits[k], {p.labels[k], p.classes[k]}, a.psi);
        sum += double{p.weights[k]} * double{entry.loss};
        grad[k] = static_cast<float>(scale * double{p.weights[k]}) * entry.grad;
      }
    if (whole)
      store<kEntriesBefore>(a.grad_logits + first, grad);
    else
      for (int k = 0; k < count; ++k) a.grad_logits[first + k] = grad[k];
  }
  store_partial(sum, a.partials);
}

}  // namespace

void sigmoid_loss_before(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                         const GradLibra& member, double loss_weight, View<const double> normalizer, View<double> loss,
                         View<float> grad_logits, View<double> workspace) {
  check_sigmoid_loss(logits, labels, weights, normalizer, loss, grad_logits, workspace);
  const int64_t R = logits.dim(0), C = logits.dim(1);
  const int64_t most = sigmoid_loss_workspace(R, C);
  const int64_t needed = (R * C + kBlock * kEntriesBefore - 1) / (kBlock * kEntriesBefore);
  const int64_t blocks = std::min(most, needed);
  const auto w = member.weight<float>();
  const GradLibraBefore psi{w.full,
                            {member.alpha_neg == kWeightOff, member.alpha_pos == kWeightOff},
                            {static_cast<float>(member.alpha_neg), static_cast<float>(member.alpha_pos)},
                            {static_cast<float>(1 - member.alpha_neg), static_cast<float>(1 - member.alpha_pos)}};
  const bool any = R > 0 && C > 0;
  if (any) {
    const ArgsBefore<GradLibraBefore> args = {.logits = logits.data(),
                                              .labels = labels.data(),
                                              .weights = weights.data(),
                                              .normalizer = normalizer.data(),
                                              .grad_logits = grad_logits.data(),
                                              .partials = workspace.data(),
                                              .R = R,
                                              .C = static_cast<int>(C),
                                              .loss_weight = loss_weight,
                                              .psi = psi};
    launch(sigmoid_loss_before_kernel<GradLibraBefore>, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args,
           aligned(logits.data(), grad_logits.data()));
  }
  launch_loss_total(cuda, workspace, any ? blocks : 0, loss_weight, normalizer, loss);
}

}  // namespace gradlibra::kernels
