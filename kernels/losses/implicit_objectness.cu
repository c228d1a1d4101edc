// SPDX-License-Identifier: MIT
// Implicit objectness on the device. Forward one thread per logit; backward one thread per anchor, which adds up over
// its classes: a row is one or two lines of memory, and there are thousands of rows.
#include "kernels/losses/implicit_objectness.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void implicit_objectness_kernel(const float* __restrict__ logits, const float* __restrict__ objectness,
                                           int64_t size, int C, float* __restrict__ z) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i < size) z[i] = joint_logit(logits[i], objectness[i / C]).z;
}

struct BackwardArgs {
  const float* logits;
  const float* objectness;
  const float* grad_z;
  float* grad_logits;
  float* grad_objectness;
  int64_t rows;
  int C;
  bool add_logits, add_objectness;
};

__global__ void implicit_objectness_backward_kernel(const BackwardArgs a) {
  const int64_t r = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (r >= a.rows) return;
  const float b = a.objectness[r];
  double sum = 0;
  for (int64_t i = r * a.C; i < (r + 1) * a.C; ++i) {
    const float g = a.grad_z[i];
    float by_class = 0;
    if (g != 0) {
      const JointLogit joint = joint_logit(a.logits[i], b);
      by_class = g * joint.by_class;
      sum += static_cast<double>(g * joint.by_objectness);
    }
    a.grad_logits[i] = a.add_logits ? a.grad_logits[i] + by_class : by_class;
  }
  const float total = static_cast<float>(sum);
  a.grad_objectness[r] = a.add_objectness ? a.grad_objectness[r] + total : total;
}

}  // namespace

void implicit_objectness(Cuda& cuda, View<const float> logits, View<const float> objectness, View<float> z) {
  check_implicit_objectness("implicit_objectness", logits, objectness, z.shape());
  if (logits.size() == 0) return;
  launch(implicit_objectness_kernel, blocks_for(logits.size(), kBlock), kBlock, 0, cuda.stream(), logits.data(),
         objectness.data(), logits.size(), static_cast<int>(logits.dim(1)), z.data());
}

void implicit_objectness_backward(Cuda& cuda, View<const float> logits, View<const float> objectness,
                                  View<const float> grad_z, View<float> grad_logits, Accumulate mode_logits,
                                  View<float> grad_objectness, Accumulate mode_objectness) {
  check_implicit_objectness_backward(logits, objectness, grad_z, grad_logits, grad_objectness);
  if (logits.dim(0) == 0) return;
  const BackwardArgs args = {.logits = logits.data(),
                             .objectness = objectness.data(),
                             .grad_z = grad_z.data(),
                             .grad_logits = grad_logits.data(),
                             .grad_objectness = grad_objectness.data(),
                             .rows = logits.dim(0),
                             .C = static_cast<int>(logits.dim(1)),
                             .add_logits = mode_logits == Accumulate::add,
                             .add_objectness = mode_objectness == Accumulate::add};
  launch(implicit_objectness_backward_kernel, blocks_for(args.rows, kBlock), kBlock, 0, cuda.stream(), args);
}

}  // namespace gradlibra::kernels
