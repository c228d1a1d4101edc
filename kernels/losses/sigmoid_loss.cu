// SPDX-License-Identifier: MIT
// Sigmoid losses on the device. A block owns kSigmoidLossRows rows of logits, which lie behind one another in memory: its threads
// take their entries in turn, so loads and stores are coalesced for any number of classes, and every entry costs one read of the
// logit and one write of the gradient. Losses are added in double, per thread, per block, then over blocks, always in one order.
#include <limits>
#include <type_traits>

#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/grad_libra.h"
#include "kernels/losses/loss_total.cuh"
#include "kernels/losses/sigmoid_loss.h"

namespace gradlibra::kernels {

namespace {

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
  double loss_weight;
  Weight psi;
};

template <class Weight>
__global__ void sigmoid_loss_kernel(const LossArgs<Weight> a) {
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
      const Entry<float> entry = sigmoid_entry(a.logits[base + k], {label, c}, a.psi);
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

template <class Loss>
void sigmoid_loss(Cuda& cuda, View<const float> logits, View<const int32_t> labels, View<const float> weights,
                  const Loss& member, double loss_weight, View<const double> normalizer, View<double> loss,
                  View<float> grad_logits, View<double> workspace) {
  check_sigmoid_loss(logits, labels, weights, normalizer, loss, grad_logits, workspace);
  const int64_t R = logits.dim(0), C = logits.dim(1);
  require(C <= std::numeric_limits<int>::max() - kBlock, "sigmoid_loss", "too many classes: " + std::to_string(C));
  const int64_t blocks = sigmoid_loss_workspace(R, C);
  const auto psi = member.template weight<float>();
  using Weight = std::remove_const_t<decltype(psi)>;

  const bool any = R > 0 && C > 0;
  if (any) {
    const LossArgs<Weight> args = {.logits = logits.data(),
                                   .labels = labels.data(),
                                   .weights = weights.data(),
                                   .normalizer = normalizer.data(),
                                   .grad_logits = grad_logits.data(),
                                   .partials = workspace.data(),
                                   .R = R,
                                   .C = static_cast<int>(C),
                                   .loss_weight = loss_weight,
                                   .psi = psi};
    launch(sigmoid_loss_kernel<Weight>, static_cast<unsigned>(blocks), kBlock, 0, cuda.stream(), args);
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

template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const CrossEntropy&,
                           double, View<const double>, View<double>, View<float>, View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const Focal&, double,
                           View<const double>, View<double>, View<float>, View<double>);
template void sigmoid_loss(Cuda&, View<const float>, View<const int32_t>, View<const float>, const GradLibra&, double,
                           View<const double>, View<double>, View<float>, View<double>);

}  // namespace gradlibra::kernels
