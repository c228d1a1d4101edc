// SPDX-License-Identifier: MIT
// Deformable convolution, version 1, as columns (arXiv:1703.06211, eq. 2-5): a matrix product with the weight follows.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct DeformDims {
  int64_t N = 0, H = 0, W = 0, C = 0;
  int K = 0, padding = 0;
};

// Throws std::invalid_argument with the shapes in the message unless the three belong together and K is odd.
DeformDims deform_dims(const char* op, const Shape& x, const Shape& offsets, const Shape& columns, int kernel);

// Kernel K x K (K odd), stride 1, padding (K-1)/2, dilation 1, one offset group. Tap t = kr*K + kc reads x at
//   py = row - pad + kr + offsets[n,row,col,2t]        px = col - pad + kc + offsets[n,row,col,2t+1]
// bilinearly: 0 (and all derivatives 0) if py <= -1, py >= H, px <= -1 or px >= W; otherwise the four corners around
// (floor py, floor px), those outside the map counting as 0. At integer positions derivatives are the right-hand ones.
// NaN offsets sample 0.
// x (N, H, W, C), offsets (N, H, W, 2*K*K) y before x, columns (N, H, W, K*K, C) row-major: tap, then channel.
void deform_im2col(Cpu&, View<const float> x, View<const float> offsets, int kernel, View<float> columns);
void deform_im2col(Cuda&, View<const float> x, View<const float> offsets, int kernel, View<float> columns);

// grad_offsets (+)= sum over c of grad_columns * d sample / d (py, px), channels in a fixed order.
void deform_im2col_backward_offsets(Cpu&, View<const float> x, View<const float> offsets,
                                    View<const float> grad_columns, int kernel, View<float> grad_offsets,
                                    Accumulate mode);
void deform_im2col_backward_offsets(Cuda&, View<const float> x, View<const float> offsets,
                                    View<const float> grad_columns, int kernel, View<float> grad_offsets,
                                    Accumulate mode);

// grad_x (+)= the scatter of grad_columns to the four corners. Deterministic: the host walks cells in order; CUDA adds in
// 64-bit fixed point, scaled by m = max |grad_columns| so that no sum can overflow: resolution m*H*W*K*K*2^-61 or finer
// (m * 2^-45 on a 64 x 64 map). A NaN or infinite gradient shows on the host where it lands, and on CUDA makes all of grad_x NaN.
// workspace: deform_im2col_workspace(x.shape()) int64 values, which the host version does not touch.
int64_t deform_im2col_workspace(const Shape& x);
void deform_im2col_backward_data(Cpu&, View<const float> offsets, View<const float> grad_columns, int kernel,
                                 View<float> grad_x, Accumulate mode, View<int64_t> workspace);
void deform_im2col_backward_data(Cuda&, View<const float> offsets, View<const float> grad_columns, int kernel,
                                 View<float> grad_x, Accumulate mode, View<int64_t> workspace);

}  // namespace gradlibra::kernels
