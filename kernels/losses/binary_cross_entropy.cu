// SPDX-License-Identifier: MIT
// Binary cross-entropy on the device: a thread per row, a partial sum per block. Most rows have weight 0 and compute
// nothing.
#include "kernels/losses/binary_cross_entropy.h"
#include "kernels/losses/loss_total.cuh"

namespace gradlibra::kernels {

namespace {

static_assert(kBlock == kBinaryCrossEntropyRows);

__global__ void binary_cross_entropy_kernel(const float* __restrict__ logits, const float* __restrict__ targets,
                                            const float* __restrict__ weights, int64_t rows, double loss_weight,
                                            const double* __restrict__ normalizer, float* __restrict__ grad_logits,
                                            double* __restrict__ partials) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  double sum = 0;
  if (i < rows) {
    const double w = weights[i];
    float grad = 0;
    if (w != 0) {
      const BinaryEntry entry = binary_entry(logits[i], targets[i]);
      sum = w * entry.loss;
      grad = static_cast<float>(loss_weight / normalizer[0] * w * entry.grad);
    }
    grad_logits[i] = grad;
  }
  store_partial(sum, partials);
}

}  // namespace

void binary_cross_entropy(Cuda& cuda, View<const float> logits, View<const float> targets, View<const float> weights,
                          const LossSum& out) {
  check_binary_cross_entropy(logits, targets, weights, out);
  const int64_t R = logits.dim(0), blocks = binary_cross_entropy_workspace(R);
  if (blocks > 0)
    launch(binary_cross_entropy_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), logits.data(),
           targets.data(), weights.data(), R, out.weight, out.normalizer.data(), out.grad.data(), out.workspace.data());
  launch_loss_total(cuda, out.workspace, blocks, out.weight, out.normalizer, out.loss);
}

}  // namespace gradlibra::kernels
