// SPDX-License-Identifier: MIT
// What a modulated deformable convolution has beside its samples (Deformable ConvNets v2, arXiv:1811.11168, eq. 1): one
// convolution predicts offsets and masks in (0, 1) together. deform_im2col takes both.
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

// What both versions check first: a function, or its backward, with the gradient that must be of another's shape.
struct ModulationDims {
  int64_t rows, taps;  // cells of all images; K*K
};
ModulationDims split_modulation_dims(const char* op, const Shape& prediction, const Shape& offsets, const Shape& mask);
ModulationDims split_modulation_backward_dims(const Shape& prediction, const Shape& grad_offsets,
                                              const Shape& grad_mask, const Shape& grad_prediction);

}  // namespace gradlibra::kernels
