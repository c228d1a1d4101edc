// SPDX-License-Identifier: MIT
// Seesaw loss on the device. A thread owns a row: nearly all are background, one logit to read and a row of zeros to
// write; the few of a class go through their logits several times, which the cache serves. Losses are added in double,
// per thread, per block, then over blocks, always in one order.
#include <algorithm>

#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/seesaw.h"

namespace gradlibra::kernels {

namespace {

struct SeesawArgs {
  const float* logits;
  const int32_t* labels;
  const float* weights;
  const double* normalizer;
  float* grad_logits;
  double* partials;  // one per block
  int64_t R;
  double loss_weight;
  SeesawRow row;
};

__global__ void __launch_bounds__(kBlock) seesaw_loss_kernel(const SeesawArgs a) {
  const double scale = a.loss_weight / a.normalizer[0];
  const int K = a.row.C + 1;
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x; i < a.R; i += int64_t{gridDim.x} * kBlock) {
    const double w = a.weights[i];
    const int32_t label = a.labels[i];
    float* grad = a.grad_logits + i * K;
    if (w == 0 || label < 0)
      for (int j = 0; j < K; ++j) grad[j] = 0;
    else
      sum += a.row(a.logits + i * K, label, w, scale * w, grad);
  }
  store_partial(sum, a.partials);
}

__global__ void seesaw_scores_kernel(const float* __restrict__ logits, int64_t R, int C, float* __restrict__ scores) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i < R) seesaw_row_scores(logits + i * (C + 1), C, scores + i * C);
}

}  // namespace

void seesaw_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                 View<const double> counts, View<const double> gained, const SeesawOptions& options,
                 const LossSum& out) {
  check_seesaw_loss(logits, labels, weights, counts, gained, options, out);
  const int64_t R = logits.dim(0), C = logits.dim(1) - 1;
  const int64_t blocks = std::min(seesaw_loss_workspace(R), (R + kBlock - 1) / kBlock);
  if (blocks > 0) {
    const SeesawArgs args = {
        .logits = logits.data(),
        .labels = labels.data(),
        .weights = weights.data(),
        .normalizer = out.normalizer.data(),
        .grad_logits = out.grad.data(),
        .partials = out.workspace.data(),
        .R = R,
        .loss_weight = out.weight,
        .row = {counts.data(), gained.data(), static_cast<int>(C), options.p, options.q, std::log(options.eps)}};
    launch(seesaw_loss_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  launch_loss_total(cuda, out.workspace, blocks, out.weight, out.normalizer, out.loss);
}

void seesaw_scores(Cuda& cuda, View<const float> logits, View<float> scores) {
  check_seesaw_scores(logits, scores);
  const int64_t R = logits.dim(0), C = logits.dim(1) - 1;
  if (R == 0) return;
  launch(seesaw_scores_kernel, blocks_for(R, kBlock), kBlock, 0, cuda.stream(), logits.data(), R, static_cast<int>(C),
         scores.data());
}

}  // namespace gradlibra::kernels
