// SPDX-License-Identifier: MIT
// Balanced group softmax on the device. A thread owns a row: most take part in the two channels of group 0 alone.
// Losses are added in double, per thread, per block, then over blocks, always in one order.
#include <algorithm>

#include "kernels/losses/bags.h"
#include "kernels/losses/loss_total.cuh"

namespace gradlibra::kernels {

namespace {

struct BagsArgs {
  const float* logits;
  const int32_t* labels;
  const float* weights;
  const uint8_t* sample;
  const double* normalizers;
  float* grad_logits;
  double* partials;  // one per block
  int64_t R;
  int K;
  double loss_weight;
  BagsRow row;
};

__global__ void __launch_bounds__(kBlock) bags_loss_kernel(const BagsArgs a) {
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x; i < a.R; i += int64_t{gridDim.x} * kBlock) {
    const double w = a.weights[i];
    const int32_t label = a.labels[i];
    float* grad = a.grad_logits + i * a.K;
    if (w == 0 || label < 0)
      for (int j = 0; j < a.K; ++j) grad[j] = 0;
    else
      sum += a.row(a.logits + i * a.K, label, w, a.sample + i * a.row.G, a.normalizers, a.loss_weight, grad);
  }
  store_partial(sum, a.partials);
}

__global__ void bags_scores_kernel(const float* __restrict__ logits, int64_t R, int K, const BagsRow row,
                                   float* __restrict__ scores) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i < R) row.scores(logits + i * K, scores + i * row.C);
}

}  // namespace

void bags_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
               View<const uint8_t> sample, const BagsLayout& layout, const LossSum& out) {
  check_bags_loss(logits, labels, weights, sample, layout, out);
  const int64_t R = logits.dim(0), blocks = std::min(bags_loss_workspace(R), (R + kBlock - 1) / kBlock);
  if (blocks > 0) {
    const BagsArgs args = {.logits = logits.data(),
                           .labels = labels.data(),
                           .weights = weights.data(),
                           .sample = sample.data(),
                           .normalizers = out.normalizer.data(),
                           .grad_logits = out.grad.data(),
                           .partials = out.workspace.data(),
                           .R = R,
                           .K = static_cast<int>(logits.dim(1)),
                           .loss_weight = out.weight,
                           .row = bags_row(layout)};
    launch(bags_loss_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  // Each row has divided by its groups' normalizers already.
  launch_loss_total(cuda, out.workspace, blocks, out.weight, {}, out.loss);
}

void bags_scores(Cuda& cuda, View<const float> logits, const BagsLayout& layout, View<float> scores) {
  check_bags_scores(logits, layout, scores);
  const int64_t R = logits.dim(0);
  if (R == 0) return;
  launch(bags_scores_kernel, blocks_for(R, kBlock), kBlock, 0, cuda.stream(), logits.data(), R,
         static_cast<int>(logits.dim(1)), bags_row(layout), scores.data());
}

}  // namespace gradlibra::kernels
