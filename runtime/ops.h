// SPDX-License-Identifier: MIT
// Differentiable operations: each joins one or two kernels to the tape. Shapes, formulas and sources stand with the kernels.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"
#include "kernels/max_pool.h"
#include "kernels/points_to_boxes.h"
#include "runtime/tape.h"

namespace gradlibra::ops {

using kernels::Activation;

// y = activation(x * weight + bias). x (N, H, W, C), weight (K, R, S, C), bias (K) or an empty Var. No gradient flows into an input that does
// not require one (the image, frozen weights).
[[nodiscard]] Var conv2d(Tape&, Var x, Var weight, Var bias, const kernels::ConvShape& shape, Activation activation);

// Deformable convolution, then activation: x (N, H, W, C), offsets (N, H, W, 2*K*K) in cells beyond the regular grid, y before x,
// weight (O, K, K, C). arXiv:1703.06211.
[[nodiscard]] Var deform_conv2d(Tape&, Var x, Var offsets, Var weight, Activation activation);

// Batch norm with stored statistics (frozen: running_mean, running_var constant) or those of the batch (running ones are updated).
struct BatchNormBuffers {
  Node* running_mean;
  Node* running_var;
  float eps = 1e-5f;
  float momentum = 0.1f;
};
[[nodiscard]] Var batch_norm(Tape&, Var x, Var weight, Var bias, const BatchNormBuffers& buffers,
                             kernels::BatchNormMode mode, Activation activation);

// A norm with stored statistics in the convolution before it (kernels/batch_norm_fold.h): weight (K, R, S, C) and bias (K), as maps of
// type `maps` are convolved with them. No gradient flows through it by itself. Shapes without data in mode `shapes`.
struct FoldedNorm {
  std::shared_ptr<Tensor> weight, bias;
};
[[nodiscard]] FoldedNorm fold_batch_norm(Tape&, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers,
                                         DType maps);

// Convolution without a bias, batch norm with stored statistics, + residual (may be empty), then activation: one pass over the map.
// `folded` is what fold_batch_norm made of the same parameters for x's type; an empty one is made here.
[[nodiscard]] Var conv2d_batch_norm(Tape&, Var x, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers,
                                    const kernels::ConvShape& shape, Var residual, Activation activation,
                                    FoldedNorm folded = {});

[[nodiscard]] Var group_norm(Tape&, Var x, Var weight, Var bias, int groups, float eps, Activation activation);

[[nodiscard]] Var relu(Tape&, Var x);
[[nodiscard]] Var add_relu(Tape&, Var a, Var b);
[[nodiscard]] Var max_pool(Tape&, Var x, const kernels::PoolShape& shape);

// Every second row and column: (N, H, W, C) to (N, ceil(H/2), ceil(W/2), C), FPN's extra level without parameters.
[[nodiscard]] Var subsample2(Tape&, Var x);

// fine + nearest(coarse).
[[nodiscard]] Var upsample_add(Tape&, Var coarse, Var fine);

// (N, H_l, W_l, C) of all levels to (N, sum of H_l*W_l, C), rows of a level row-major.
[[nodiscard]] Var concat_levels(Tape&, std::span<const Var> levels);

// x - row, the row of C channels repeated; the gradient is multiplied by grad_factor. RepPoints' tap offsets. `row` outlives the tape.
[[nodiscard]] Var subtract_row(Tape&, Var x, const Tensor& row, float grad_factor);

// A bfloat16 map as float, a float map as it is: from here on (offsets, boxes, losses) nothing is rounded.
[[nodiscard]] Var to_float(Tape&, Var x);

// a + stop_gradient(b).
[[nodiscard]] Var add_detached(Tape&, Var a, Var b);

// offsets (N, P, 2K), priors (P, 3), moment (2) or an empty Var, to boxes (N, P, 4).
[[nodiscard]] Var points_to_boxes(Tape&, Var offsets, const Tensor& priors, Var moment, kernels::BoxTransform transform,
                                  float moment_mul);

}  // namespace gradlibra::ops
