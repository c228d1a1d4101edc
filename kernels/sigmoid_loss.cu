// SPDX-License-Identifier: MIT
// Sigmoid losses on the device. A block owns kSigmoidLossRows rows of logits, which lie behind one another in memory: its threads
// take their entries in turn, so loads and stores are coalesced for any number of classes, and every entry costs one read of the
// logit and one write of the gradient. Losses are added in double, per thread, per block, then over blocks, always in one order.
#include <limits>

#include "kernels/loss_total.cuh"
#include "kernels/sigmoid_entry.h"
#include "kernels/sigmoid_loss.h"

namespace gradlibra::kernels {

namespace {

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
  EntryOptions<float> entry;
};

__global__ void sigmoid_loss_kernel(const LossArgs a) {
  const int64_t first_row = int64_t{blockIdx.x} * kSigmoidLossRows;
  const int64_t rows = a.R - first_row < kSigmoidLossRows ? a.R - first_row : kSigmoidLossRows;
  const int64_t entries = rows * a.C, base = first_row * a.C;
  const double scale = a.loss_weight / a.normalizer[0];

  // (i, c) is entry k of the block; stepping both saves a division per entry.
  const int step_i = kBlock / a.C, step_c = kBlock % a.C;
  int i = static_cast<int>(threadIdx.x) / a.C, c = static_cast<int>(threadIdx.x) % a.C;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < entries; k += kBlock) {
    const int32_t label = a.labels[first_row + i];
    const float weight = a.weights[first_row + i];
    float grad = 0;
    if (weight != 0 && label >= 0) {
      const Entry<float> entry = sigmoid_entry(a.logits[base + k], c == label, a.entry);
      sum += double{weight} * double{entry.loss};
      grad = static_cast<float>(scale * double{weight}) * entry.grad;
    }
    a.grad_logits[base + k] = grad;
    i += step_i;
    c += step_c;
    if (c >= a.C) {
      c -= a.C;
      ++i;
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) a.partials[blockIdx.x] = sum;
}

__global__ void sigmoid_kernel(const float* __restrict__ logits, float* __restrict__ scores, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const float z = logits[i], e = expf(-fabsf(z));
  scores[i] = (z >= 0 ? 1 : e) / (1 + e);
}

}  // namespace

void sigmoid_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const SigmoidLoss& options, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace) {
  require(logits.rank() == 2, "sigmoid_loss", "logits must be (R, C), are " + logits.shape().to_string());
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require_shape("sigmoid_loss", "labels", labels, {R});
  require_shape("sigmoid_loss", "weights", weights, {R});
  require_shape("sigmoid_loss", "normalizer", normalizer, {1});
  require_shape("sigmoid_loss", "loss", loss, {1});
  require_shape("sigmoid_loss", "grad_logits", grad_logits, {R, C});
  require(C <= std::numeric_limits<int>::max() - kBlock, "sigmoid_loss", "too many classes: " + std::to_string(C));
  const int64_t blocks = sigmoid_loss_workspace(R, C);
  require(workspace.size() >= blocks, "sigmoid_loss", "workspace is too small");
  const EntryOptions<float> entry = entry_options<float>(options);

  const bool any = R > 0 && C > 0;
  if (any) {
    const LossArgs args = {.logits = logits.data(),
                           .labels = labels.data(),
                           .weights = weights.data(),
                           .normalizer = normalizer.data(),
                           .grad_logits = grad_logits.data(),
                           .partials = workspace.data(),
                           .R = R,
                           .C = static_cast<int>(C),
                           .loss_weight = loss_weight,
                           .entry = entry};
    launch(sigmoid_loss_kernel, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
  }
  launch(loss_total_kernel, 1, kBlock, 0, cuda.stream(), workspace.data(), any ? blocks : 0, loss_weight,
         normalizer.data(), loss.data());
}

void sigmoid(Cuda& cuda, View<const float> logits, View<float> scores) {
  require_shape("sigmoid", "scores", scores, logits.shape());
  if (logits.size() == 0) return;
  launch(sigmoid_kernel, blocks_for(logits.size(), kBlock), kBlock, 0, cuda.stream(), logits.data(), scores.data(),
         logits.size());
}

}  // namespace gradlibra::kernels
