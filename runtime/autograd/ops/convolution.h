// SPDX-License-Identifier: MIT
// Convolutions on the tape, through the context's library (runtime/device/convolution.h).
#pragma once

#include <memory>

#include "kernels/convolution/conv2d.h"
#include "runtime/autograd/ops/norm.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// y = activation(x * weight + bias). x (N, H, W, C), weight (K, R, S, C), bias (K) or an empty Var. No gradient flows
// into an input that does not require one (the image, frozen weights).
[[nodiscard]] Var conv2d(Tape&, Var x, Var weight, Var bias, const kernels::ConvShape& shape, Activation activation);

// Deformable convolution, then activation: x (N, H, W, C), offsets (N, H, W, 2*K*K) in cells beyond the regular grid, y
// before x, weight (O, K, K, C). arXiv:1703.06211. Where two convolutions of one kernel size sample at the same
// offsets, `points`, the same for both, spares the second one's backward pass part of the work.
using SamplePoints = std::shared_ptr<Tensor>;
[[nodiscard]] inline SamplePoints sample_points() { return std::make_shared<Tensor>(); }
[[nodiscard]] Var deform_conv2d(Tape&, Var x, Var offsets, Var weight, Activation activation,
                                const SamplePoints& points = nullptr);

// The same with every sample multiplied by a mask, then + bias (O), which may be an empty Var: arXiv:1811.11168, eq. 1.
// prediction (N, H, W, 3*K*K), of x's type: the offsets as above, then a logit of the mask for each tap.
[[nodiscard]] Var modulated_deform_conv2d(Tape&, Var x, Var prediction, Var weight, Var bias, Activation activation);

// A norm with stored statistics in the convolution before it (kernels/norms/batch_norm_fold.h): weight (K, R, S, C) and
// bias (K), as maps of type `maps` are convolved with them. No gradient flows through it by itself. Shapes without data
// in mode `shapes`.
struct FoldedNorm {
  std::shared_ptr<Tensor> weight, bias;
};
[[nodiscard]] FoldedNorm fold_batch_norm(Tape&, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers,
                                         DType maps);

// Convolution without a bias, batch norm with stored statistics, + residual (may be empty), then activation: one pass
// over the map. `folded` is what fold_batch_norm made of the same parameters for x's type; an empty one is made here.
struct ConvBatchNorm {
  Var x, weight, gamma, beta;
  BatchNormBuffers buffers;
  kernels::ConvShape shape{};
  Var residual{};
  Activation activation = Activation::none;
  FoldedNorm folded{};
};
[[nodiscard]] Var conv2d_batch_norm(Tape&, ConvBatchNorm layer);

}  // namespace gradlibra::ops
