// SPDX-License-Identifier: MIT
// Sums of gradients by class on the device. A block has kClassGradientRows rows and up to 32 classes: a lane owns a
// class, the slots share the rows. A second kernel adds the blocks up in order.
#include "kernels/block_sum.cuh"
#include "kernels/losses/class_gradients.h"

namespace gradlibra::kernels {

namespace {

struct GradientArgs {
  const float* logits;
  const float* grad_logits;
  const int32_t* labels;
  const float* weights;
  const int32_t* channels;
  double* partials;  // (blocks, class_gradients_size(C))
  int64_t R, K;
  int C;
  int lanes;
  bool every_row;
};

// Of a class over some rows: |p - y| of positives and negatives, |gradient| of both, how many rows there were, and
// |gradient| of hard positives and negatives.
enum Sum { kCePositive, kCeNegative, kLossPositive, kLossNegative, kRows, kHardPositive, kHardNegative, kSums };

__global__ void __launch_bounds__(kBlock) class_gradients_kernel(const GradientArgs a) {
  const int lane = static_cast<int>(threadIdx.x) % a.lanes, slot = static_cast<int>(threadIdx.x) / a.lanes;
  const int c = static_cast<int>(blockIdx.y) * a.lanes + lane, slots = kBlock / a.lanes;
  const int64_t begin = int64_t{blockIdx.x} * kClassGradientRows;
  const int64_t end = begin + kClassGradientRows < a.R ? begin + kClassGradientRows : a.R;
  double sums[kSums] = {};
  if (c < a.C) {
    const int64_t channel = a.channels[c];
    for (int64_t i = begin + slot; i < end; i += slots) {
      const float w = a.weights[i];
      const int label = a.labels[i];
      if (w == 0 || label < 0) continue;
      sums[kRows] += 1;
      const bool positive = label == c;
      const float z = a.logits[i * a.K + channel], grad = a.grad_logits[i * a.K + channel];
      if (!positive && !a.every_row && grad == 0) continue;
      const float t = positive ? -z : z;
      const float e = expf(-fabsf(t));
      const float hardness = (t >= 0 ? 1 : e) / (1 + e);
      sums[positive ? kCePositive : kCeNegative] += double{w} * double{hardness};
      sums[positive ? kLossPositive : kLossNegative] += double{fabsf(grad)};
      if (t > 0) sums[positive ? kHardPositive : kHardNegative] += double{fabsf(grad)};
    }
  }
  slot_sum(sums, a.lanes);
  if (slot != 0 || c >= a.C) return;
  double* const part = a.partials + int64_t{blockIdx.x} * class_gradients_size(a.C);
  for (int k = 0; k < kRows; ++k) part[k * a.C + c] = sums[k];
  if (c == 0) part[4 * a.C] = sums[kRows];
  for (int k = kHardPositive; k < kSums; ++k) part[(k - 1) * a.C + 1 + c] = sums[k];
}

// A lane owns one of the sums, the slots share the partial sums of it.
__global__ void class_gradient_totals_kernel(const double* __restrict__ partials, int64_t chunks, int C,
                                             const double* __restrict__ normalizers, bool one_normalizer,
                                             double loss_weight, double* __restrict__ sums) {
  const int size = static_cast<int>(class_gradients_size(C)), slot = static_cast<int>(threadIdx.x) / kTotalLanes;
  const int j = static_cast<int>(blockIdx.x) * kTotalLanes + static_cast<int>(threadIdx.x) % kTotalLanes;
  double total[1] = {0};
  if (j < size)
    for (int64_t chunk = slot; chunk < chunks; chunk += kBlock / kTotalLanes) total[0] += partials[chunk * size + j];
  slot_sum(total, kTotalLanes);
  if (slot != 0 || j >= size) return;
  if (j >= 2 * C && j != 4 * C) {  // sums of gradients; the number of rows stands among them
    const int c = (j < 4 * C ? j : j - 1) % C;
    total[0] *= loss_weight == 0 ? 0 : normalizers[one_normalizer ? 0 : c] / loss_weight;
  }
  sums[j] = total[0];
}

// A thread owns one total.
__global__ void add_class_gradients_kernel(const double* __restrict__ sums, const float* __restrict__ ok,
                                           double* __restrict__ totals, int64_t size) {
  const int64_t j = int64_t{blockIdx.x} * kBlock + threadIdx.x, count = size / 6 * 4;
  if (j >= size || !isfinite(ok[0])) return;
  if (j == count)
    totals[j] += 1;
  else if (sums[count] > 0)
    totals[j] += sums[j] / sums[count];
}

}  // namespace

void class_gradients(Cuda& cuda, View<const float> logits, View<const float> grad_logits, View<const int32_t> labels,
                     View<const float> weights, View<const int32_t> channels, View<const double> normalizers,
                     const ClassGradients& options, View<double> sums, View<double> workspace) {
  check_class_gradients(logits, grad_logits, labels, weights, channels, normalizers, sums, workspace);
  const int64_t R = logits.dim(0), C = channels.size(), chunks = blocks_for(R, kClassGradientRows);
  if (chunks > 0) {
    const int lanes = lanes_for(C, 1);
    const GradientArgs args = {.logits = logits.data(),
                               .grad_logits = grad_logits.data(),
                               .labels = labels.data(),
                               .weights = weights.data(),
                               .channels = channels.data(),
                               .partials = workspace.data(),
                               .R = R,
                               .K = logits.dim(1),
                               .C = static_cast<int>(C),
                               .lanes = lanes,
                               .every_row = options.every_row};
    launch(class_gradients_kernel, dim3(static_cast<unsigned>(chunks), blocks_for(C, lanes)), kBlock, 0, cuda.stream(),
           args);
  }
  launch(class_gradient_totals_kernel, blocks_for(class_gradients_size(C), kTotalLanes), kBlock, 0, cuda.stream(),
         workspace.data(), chunks, C, normalizers.data(), normalizers.size() == 1, options.loss_weight, sums.data());
}

void add_class_gradients(Cuda& cuda, View<const double> sums, View<const float> ok, View<double> totals) {
  check_add_class_gradients(sums, ok, totals);
  launch(add_class_gradients_kernel, blocks_for(sums.size(), kBlock), kBlock, 0, cuda.stream(), sums.data(), ok.data(),
         totals.data(), sums.size());
}

}  // namespace gradlibra::kernels
