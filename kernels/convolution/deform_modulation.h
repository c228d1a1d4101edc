// SPDX-License-Identifier: MIT
// What modulation adds to a deformable convolution (Deformable ConvNets v2, arXiv:1811.11168, eq. 1): every sample is
// multiplied by a mask in (0, 1), and one convolution predicts offsets and masks together. The samples themselves are
// those of deform_im2col.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/host_device.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// 1 / (1 + e^-z) and its slope, without overflow and without the subtraction 1 - mask, in which large z would lose
// their slope. NaN stays NaN.
struct MaskValue {
  float mask, slope;
};
GRADLIBRA_HOST_DEVICE inline MaskValue mask_of(float logit) {
  const float e = std::exp(-std::abs(logit));
  const float larger = 1 / (1 + e), smaller = e * larger;
  return {logit >= 0 ? larger : smaller, larger * smaller};
}

// Takes the channels of the predicting convolution apart. With T = K*K taps and sample = ((n*H + row)*W + col)*T + t:
//   offsets[sample] = (prediction[n,row,col,2t], prediction[n,row,col,2t+1])        y before x
//   mask[sample]    = sigmoid(prediction[n,row,col,2T+t])
// prediction (N, H, W, 3*T), offsets (N, H, W, 2*T) and mask (N, H, W, T) in float, of any size. MMDetection's order of
// channels.
template <MapType T>
void split_modulation(Cpu&, View<const T> prediction, View<float> offsets, View<float> mask);
template <MapType T>
void split_modulation(Cuda&, View<const T> prediction, View<float> offsets, View<float> mask);

// grad_prediction (+)= the gradients of offsets and mask through the above, joined; added in float, rounded once.
template <MapType T>
void split_modulation_backward(Cpu&, In<T> prediction, View<const float> grad_offsets, View<const float> grad_mask,
                               const GradTarget<T>& grad_prediction);
template <MapType T>
void split_modulation_backward(Cuda&, In<T> prediction, View<const float> grad_offsets, View<const float> grad_mask,
                               const GradTarget<T>& grad_prediction);

// modulated[sample, c] = mask[sample] * columns[sample, c]. columns and modulated (N, H, W, T, C), mask (N, H, W, T).
// modulated may be columns, never an overlapping other array.
template <MapType T>
void modulate_columns(Cpu&, In<T> columns, View<const float> mask, View<T> modulated);
template <MapType T>
void modulate_columns(Cuda&, In<T> columns, View<const float> mask, View<T> modulated);

// grad, the gradient of the modulated columns, becomes that of the columns, and grad_mask is overwritten:
//   grad_mask[sample] = sum over c of grad[sample, c] * columns[sample, c]        channels in a fixed order
//   grad[sample, c]   = mask[sample] * grad[sample, c]
// The order of the sum is each version's own.
template <MapType T>
void modulate_columns_backward(Cpu&, In<T> columns, View<const float> mask, View<T> grad, View<float> grad_mask);
template <MapType T>
void modulate_columns_backward(Cuda&, In<T> columns, View<const float> mask, View<T> grad, View<float> grad_mask);

// What both versions check first: a function, or its backward, with the gradient that must be of another's shape.
struct ModulationDims {
  int64_t rows, taps;  // cells of all images; K*K
};
ModulationDims split_modulation_dims(const char* op, const Shape& prediction, const Shape& offsets, const Shape& mask);
ModulationDims split_modulation_backward_dims(const Shape& prediction, const Shape& grad_offsets,
                                              const Shape& grad_mask, const Shape& grad_prediction);
struct ColumnDims {
  int64_t samples, C;
};
ColumnDims modulate_columns_dims(const char* op, const Shape& columns, const Shape& mask, const Shape& modulated);
ColumnDims modulate_columns_backward_dims(const Shape& columns, const Shape& mask, const Shape& grad,
                                          const Shape& grad_mask);

}  // namespace gradlibra::kernels
