// SPDX-License-Identifier: MIT
// Deformable convolution in one kernel, forward: samples and product together, without columns in memory
// (docs/deformable_ladder.md).
#pragma once

#include "kernels/activation.h"
#include "kernels/convolution/deform_im2col.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// y[n,h,w,o] = activation(sum over taps t and channels c of weight[o,t,c] * sample[n,h,w,t,c])
// with the samples of deform_im2col in bfloat16 (there: positions, borders, order of the offsets): rounded before the
// product as its columns are. Sums in float, rounded once; their order is not fixed, so versions differ by what that
// changes. x (N, H, W, C), offsets (N, H, W, 2*K*K), weight (O, K, K, C), y (N, H, W, O). K = kernel is odd, C a
// multiple of 8; any of N, H, W, O may be 0. The CUDA version wants x and weight aligned to 16 bytes. NaN stays NaN,
// also behind a ReLU.
void deform_conv2d(Cpu&, View<const bfloat16> x, View<const float> offsets, View<const bfloat16> weight, int kernel,
                   Activation activation, View<bfloat16> y);
void deform_conv2d(Cuda&, View<const bfloat16> x, View<const float> offsets, View<const bfloat16> weight, int kernel,
                   Activation activation, View<bfloat16> y);

// Throws std::invalid_argument with the shapes in the message unless the four belong together.
DeformDims deform_conv2d_dims(const Shape& x, const Shape& offsets, const Shape& weight, int kernel, const Shape& y);

}  // namespace gradlibra::kernels
