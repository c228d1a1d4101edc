// SPDX-License-Identifier: MIT
// Smooth L1 loss on the device. A thread owns one box (a 16-byte load each of prediction and target), a block
// kSmoothL1Rows boxes. Most rows have weight 0: they read their weight only and write zeros.
#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/smooth_l1.h"

namespace gradlibra::kernels {

namespace {

static_assert(kBlock == kSmoothL1Rows);  // a thread per row, a partial sum per block

struct BoxLossArgs {
  const float4* pred;
  const float4* target;
  const float* weights;
  const float* row_scales;
  const double* normalizer;
  float4* grad_pred;
  double* partials;  // one per block
  int64_t rows;
  int64_t P;
  float beta;
  double loss_weight;
};

// Adds the loss of one coordinate to `sum` and returns its derivative by d.
__device__ float smooth_l1_coordinate(float d, float beta, double& sum) {
  if (fabsf(d) < beta) {
    sum += double{d * d / (2 * beta)};
    return d / beta;
  }
  sum += double{fabsf(d) - beta / 2};
  return d > 0 ? 1 : d < 0 ? -1 : d;  // the last d is NaN
}

__global__ void smooth_l1_kernel(const BoxLossArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  double sum = 0;
  if (i < a.rows) {
    const float w = a.weights[i];
    float4 grad = {0, 0, 0, 0};
    if (w != 0) {
      const float row_scale = a.row_scales[i % a.P];
      const float grad_scale = static_cast<float>(a.loss_weight / a.normalizer[0] * double{w}) * row_scale;
      const float4 p = a.pred[i], t = a.target[i];
      grad.x = grad_scale * smooth_l1_coordinate((p.x - t.x) * row_scale, a.beta, sum);
      grad.y = grad_scale * smooth_l1_coordinate((p.y - t.y) * row_scale, a.beta, sum);
      grad.z = grad_scale * smooth_l1_coordinate((p.z - t.z) * row_scale, a.beta, sum);
      grad.w = grad_scale * smooth_l1_coordinate((p.w - t.w) * row_scale, a.beta, sum);
      sum *= double{w};
    }
    a.grad_pred[i] = grad;
  }
  store_partial(sum, a.partials);
}

const float4* as_float4(const float* p) { return reinterpret_cast<const float4*>(p); }

}  // namespace

void smooth_l1(Cuda& cuda, View<const float> pred, View<const float> target, View<const float> weights,
               View<const float> row_scales, float beta, const LossSum& out) {
  check_smooth_l1(pred, target, weights, row_scales, beta, out);
  const int64_t N = pred.dim(0), P = pred.dim(1), blocks = smooth_l1_workspace(N * P);
  if (blocks > 0) {
    const BoxLossArgs args = {.pred = as_float4(pred.data()),
                              .target = as_float4(target.data()),
                              .weights = weights.data(),
                              .row_scales = row_scales.data(),
                              .normalizer = out.normalizer.data(),
                              .grad_pred = reinterpret_cast<float4*>(out.grad.data()),
                              .partials = out.workspace.data(),
                              .rows = N * P,
                              .P = P,
                              .beta = beta,
                              .loss_weight = out.weight};
    launch(smooth_l1_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  launch_loss_total(cuda, out.workspace, blocks, out.weight, out.normalizer, out.loss);
}

}  // namespace gradlibra::kernels
