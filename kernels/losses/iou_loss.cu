// SPDX-License-Identifier: MIT
// Overlap losses on the device. A thread owns one pair (a 16-byte load each of prediction and target), a block
// kIouLossRows pairs. Most rows have weight 0: they read their weight only and write zeros, so the few that compute can
// afford double precision.
#include "kernels/losses/iou_entry.h"
#include "kernels/losses/iou_loss.h"
#include "kernels/losses/loss_total.cuh"

namespace gradlibra::kernels {

namespace {

static_assert(kBlock == kIouLossRows);  // a thread per row, a partial sum per block

struct IouLossArgs {
  const float4* pred;
  const float4* target;
  const float* weights;
  const double* normalizer;
  float4* grad_pred;
  double* partials;  // one per block
  int64_t rows;
  double loss_weight;
  IouLoss options;
};

__global__ void iou_loss_kernel(const IouLossArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  double sum = 0;
  if (i < a.rows) {
    const double w = a.weights[i];
    float4 grad = {0, 0, 0, 0};
    if (w != 0) {
      const float4 p = a.pred[i], t = a.target[i];
      const float pred[4] = {p.x, p.y, p.z, p.w}, target[4] = {t.x, t.y, t.z, t.w};
      const IouEntry entry = iou_entry(pred, target, a.options);
      const double scale = a.loss_weight / a.normalizer[0] * w;
      sum = w * entry.loss;
      grad = make_float4(static_cast<float>(scale * entry.grad[0]), static_cast<float>(scale * entry.grad[1]),
                         static_cast<float>(scale * entry.grad[2]), static_cast<float>(scale * entry.grad[3]));
    }
    a.grad_pred[i] = grad;
  }
  store_partial(sum, a.partials);
}

}  // namespace

void iou_loss(Cuda& cuda, View<const float> pred, View<const float> target, View<const float> weights,
              const IouLoss& options, const LossSum& out) {
  check_iou_loss(pred, target, weights, options, out);
  const int64_t R = pred.dim(0), blocks = iou_loss_workspace(R);
  if (blocks > 0) {
    const IouLossArgs args = {.pred = reinterpret_cast<const float4*>(pred.data()),
                              .target = reinterpret_cast<const float4*>(target.data()),
                              .weights = weights.data(),
                              .normalizer = out.normalizer.data(),
                              .grad_pred = reinterpret_cast<float4*>(out.grad.data()),
                              .partials = out.workspace.data(),
                              .rows = R,
                              .loss_weight = out.weight,
                              .options = options};
    launch(iou_loss_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  launch_loss_total(cuda, out.workspace, blocks, out.weight, out.normalizer, out.loss);
}

}  // namespace gradlibra::kernels
