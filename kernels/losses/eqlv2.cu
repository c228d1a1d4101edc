// SPDX-License-Identifier: MIT
// Equalization loss v2 on the device. What a batch adds to the classes' sums: a thread adds up entries of one channel,
// neighbouring threads read neighbouring entries; then over the block's rows, then over blocks, always in one order.
#include <algorithm>

#include "kernels/block_sum.cuh"
#include "kernels/divide.cuh"
#include "kernels/launch.h"
#include "kernels/losses/eqlv2.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

struct GradientArgs {
  const float* logits;
  const int32_t* labels;
  const float* row_weights;
  const float* weights;
  double* partials;  // (blocks, 2, C)
  int64_t R, rows;   // in all, of a block
  int K, C;
};

__global__ void __launch_bounds__(kBlock) gradient_share_kernel(const GradientArgs a) {
  __shared__ double sums[2][kBlock];
  const int64_t begin = blockIdx.x * a.rows, end = begin + a.rows < a.R ? begin + a.rows : a.R;
  double* partial = a.partials + int64_t{blockIdx.x} * 2 * a.C;
  const int t = static_cast<int>(threadIdx.x);
  for (int first = 0; first < a.K; first += kBlock) {
    const int lanes = a.K - first < kBlock ? a.K - first : kBlock, slots = kBlock / lanes;
    const int c = first + t % lanes, slot = t / lanes;
    double positive = 0, negative = 0;
    if (c < a.C && slot < slots)
      for (int64_t i = begin + slot; i < end; i += slots) {
        const int32_t label = a.labels[i];
        const float w = a.row_weights[i];
        if (w == 0 || label < 0) continue;
        const bool own = label == c;
        const double part =
            double{w} * double{a.weights[own ? a.K + c : c]} * double{eqlv2_gradient_norm(a.logits[i * a.K + c], own)};
        if (own)
          positive += part;
        else
          negative += part;
      }
    sums[0][t] = positive;
    sums[1][t] = negative;
    __syncthreads();
    if (slot == 0 && c < a.C)
      for (int side = 0; side < 2; ++side) {
        double sum = 0;
        for (int s = 0; s < slots; ++s) sum += sums[side][s * lanes + t];
        partial[side * a.C + c] = sum;
      }
    __syncthreads();
  }
}

// One block for each of the 2C sums.
__global__ void gradient_total_kernel(const double* __restrict__ partials, int64_t blocks,
                                      double* __restrict__ gradients) {
  double sum = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += kBlock) sum += partials[b * gridDim.x + blockIdx.x];
  sum = block_sum(sum);
  if (threadIdx.x == 0) gradients[blockIdx.x] = sum;
}

__global__ void weights_kernel(const double* __restrict__ ratios, int C, const EqlV2Options options, int K,
                               float* __restrict__ weights) {
  const int c = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (c >= K) return;
  const EqlV2Weights w = c < C ? eqlv2_class_weights(ratios[c], options) : EqlV2Weights{1, 1};
  weights[c] = static_cast<float>(w.negative);
  weights[K + c] = static_cast<float>(w.positive);
}

__global__ void accumulate_kernel(const double* __restrict__ gained, const float* __restrict__ ok, int C,
                                  double* __restrict__ sums, double* __restrict__ ratios) {
  const int c = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (c >= C || !isfinite(ok[0])) return;
  sums[c] += gained[c];
  sums[C + c] += gained[C + c];
  ratios[c] = sums[c] / (sums[C + c] + 1e-10);
}

// One thread per score.
__global__ void scores_kernel(const float* __restrict__ logits, int64_t size, int C, float* __restrict__ scores) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t row = divide(i, C);
  const float* z = logits + row * (C + 1);
  scores[i] = eqlv2_gradient_norm(z[i - row * C], false) * eqlv2_gradient_norm(z[C], true);
}

}  // namespace

void eqlv2_weights(Cuda& cuda, View<const double> ratios, const EqlV2Options& options, View<float> weights) {
  check_eqlv2_weights(ratios, weights);
  const int64_t K = weights.dim(1);
  if (K == 0) return;
  launch(weights_kernel, blocks_for(K, kBlock), kBlock, 0, cuda.stream(), ratios.data(),
         static_cast<int>(ratios.size()), options, static_cast<int>(K), weights.data());
}

void eqlv2_gradients(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> row_weights,
                     View<const float> weights, View<double> gradients, View<double> workspace) {
  check_eqlv2_gradients(logits, labels, row_weights, weights, gradients, workspace);
  const int64_t R = logits.dim(0), K = logits.dim(1), C = gradients.dim(1), rows = eqlv2_rows(R);
  const int64_t blocks = (R + rows - 1) / rows;
  if (C == 0) return;
  if (blocks > 0) {
    const GradientArgs args = {.logits = logits.data(),
                               .labels = labels.data(),
                               .row_weights = row_weights.data(),
                               .weights = weights.data(),
                               .partials = workspace.data(),
                               .R = R,
                               .rows = rows,
                               .K = static_cast<int>(K),
                               .C = static_cast<int>(C)};
    launch(gradient_share_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  launch(gradient_total_kernel, static_cast<unsigned>(2 * C), kBlock, 0, cuda.stream(), workspace.data(), blocks,
         gradients.data());
}

void eqlv2_accumulate(Cuda& cuda, View<const double> gained, View<const float> ok, View<double> sums,
                      View<double> ratios) {
  check_eqlv2_accumulate(gained, ok, sums, ratios);
  const int64_t C = ratios.size();
  if (C == 0) return;
  launch(accumulate_kernel, blocks_for(C, kBlock), kBlock, 0, cuda.stream(), gained.data(), ok.data(),
         static_cast<int>(C), sums.data(), ratios.data());
}

void eqlv2_scores(Cuda& cuda, View<const float> logits, View<float> scores) {
  check_eqlv2_scores(logits, scores);
  const int64_t R = logits.dim(0), C = logits.dim(1) - 1;
  if (R * C == 0) return;
  launch(scores_kernel, blocks_for(R * C, kBlock), kBlock, 0, cuda.stream(), logits.data(), R * C, static_cast<int>(C),
         scores.data());
}

}  // namespace gradlibra::kernels
