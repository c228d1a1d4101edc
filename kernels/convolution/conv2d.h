// SPDX-License-Identifier: MIT
// Plain convolution: the definition that oneDNN and cuDNN are checked against, and the fallback where they are missing.
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct ConvShape {
  int stride = 1;
  int padding = 0;
  int dilation = 1;
};

// Number of output cells along one side; the padded map must be at least as long as the dilated kernel.
constexpr int64_t conv_size(int64_t size, int64_t kernel, const ConvShape& s) {
  return (size + 2 * s.padding - s.dilation * (kernel - 1) - 1) / s.stride + 1;
}

// Every size of a convolution: x (N, H, W, C), weight (K, R, S, C), y (N, P, Q, K).
struct ConvDims {
  int64_t N = 0, H = 0, W = 0, C = 0, K = 0, R = 0, S = 0, P = 0, Q = 0;
  int stride = 1, padding = 0, dilation = 1;
};

// Throws std::invalid_argument with the shapes in the message unless the three belong together.
ConvDims conv_dims(const char* op, const Shape& x, const Shape& weight, const Shape& y, const ConvShape& shape);

// y[n,i,j,o] = bias[o] + sum_{kr,kc,c} weight[o,kr,kc,c] *
// x[n, i*stride - padding + kr*dilation, j*stride - padding + kc*dilation, c], taps outside the map count as 0. A bias
// view without data means none. Sums in float32 over (kr, kc, c) in this order. x (N, H, W, C), weight (K, R, S, C),
// bias (K), y (N, P, Q, K) with P, Q = conv_size. N may be 0. Non-finite values spread to what they touch; CUDA
// multiplies by the 0 of the padding, so an infinite weight gives NaN there.
void conv2d(Cpu&, View<const float> x, View<const float> weight, View<const float> bias, const ConvShape& shape,
            View<float> y);
void conv2d(Cuda&, View<const float> x, View<const float> weight, View<const float> bias, const ConvShape& shape,
            View<float> y);

// grad_x (+)= the transposed convolution of grad_y.
void conv2d_backward_data(Cpu&, View<const float> grad_y, View<const float> weight, const ConvShape& shape,
                          View<float> grad_x, Accumulate mode);
void conv2d_backward_data(Cuda&, View<const float> grad_y, View<const float> weight, const ConvShape& shape,
                          View<float> grad_x, Accumulate mode);

// grad_weight (+)= sum over n, i, j of grad_y[n,i,j,o] * x[n, .., .., c], in this order. N = 0 overwrites with zeros.
void conv2d_backward_weight(Cpu&, View<const float> x, View<const float> grad_y, const ConvShape& shape,
                            View<float> grad_weight, Accumulate mode);
void conv2d_backward_weight(Cuda&, View<const float> x, View<const float> grad_y, const ConvShape& shape,
                            View<float> grad_weight, Accumulate mode);

}  // namespace gradlibra::kernels
