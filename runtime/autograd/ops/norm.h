// SPDX-License-Identifier: MIT
// Norms on the tape. A batch norm with stored statistics is part of its convolution:
// runtime/autograd/ops/convolution.h.
#pragma once

#include "kernels/norms/batch_norm.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

using kernels::Activation;

// What a batch norm keeps beside its parameters.
struct BatchNormBuffers {
  Node* running_mean;
  Node* running_var;
  float eps = 1e-5f;
  float momentum = 0.1f;
};
// By the statistics of the batch, of all ranks' where the tape says so (Tape::share_statistics), which also updates the
// running ones. With stored statistics: ops::conv2d_batch_norm.
[[nodiscard]] Var batch_norm(Tape&, Var x, Var weight, Var bias, const BatchNormBuffers& buffers,
                             Activation activation);

// Over each of `groups` groups of channels of an image, then weight * . + bias, per channel, and the activation
// (arXiv:1803.08494): x (N, H, W, C), weight and bias (C), C a multiple of groups.
[[nodiscard]] Var group_norm(Tape&, Var x, Var weight, Var bias, int groups, float eps, Activation activation);

}  // namespace gradlibra::ops
