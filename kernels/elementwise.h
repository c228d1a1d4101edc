// SPDX-License-Identifier: MIT
// Elementwise kernels: fill, add, scale, ReLU and the residual add + ReLU, casts between float32 and bfloat16.
#pragma once

#include "kernels/bfloat16.h"
#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// All views of one call have the same number of elements (checked); shapes are otherwise ignored. Empty views are legal.
// Outputs may be the same array as an input, never an overlapping other one.

// What every function with inputs checks first.
template <class A, class B>
void require_same_size(const char* op, const View<A>& a, const View<B>& b) {
  require(a.size() == b.size(), op, a.shape().to_string() + " and " + b.shape().to_string() + " differ in size");
}

// y = value
void fill(Cpu&, View<float> y, float value);
void fill(Cuda&, View<float> y, float value);

// y = x (overwrite) or y += x (add)
void copy(Cpu&, View<const float> x, View<float> y, Accumulate mode);
void copy(Cuda&, View<const float> x, View<float> y, Accumulate mode);

// y = factor * x (overwrite) or y += factor * x (add)
void scale(Cpu&, View<const float> x, float factor, View<float> y, Accumulate mode);
void scale(Cuda&, View<const float> x, float factor, View<float> y, Accumulate mode);

// y = max(x, 0); NaN stays NaN.
void relu(Cpu&, View<const float> x, View<float> y);
void relu(Cuda&, View<const float> x, View<float> y);

// y = max(a + b, 0); NaN stays NaN. The end of a residual block.
void add_relu(Cpu&, View<const float> a, View<const float> b, View<float> y);
void add_relu(Cuda&, View<const float> a, View<const float> b, View<float> y);

// grad_x (+)= y > 0 ? grad_y : 0, from the output y of relu or add_relu (the gradient at exactly 0 is 0).
// For add_relu both inputs get this same gradient.
void relu_backward(Cpu&, View<const float> y, View<const float> grad_y, View<float> grad_x, Accumulate mode);
void relu_backward(Cuda&, View<const float> y, View<const float> grad_y, View<float> grad_x, Accumulate mode);

// Round to nearest even, NaN kept (kernels/bfloat16.h).
void cast(Cpu&, View<const float> x, View<bfloat16> y);
void cast(Cuda&, View<const float> x, View<bfloat16> y);
void cast(Cpu&, View<const bfloat16> x, View<float> y);
void cast(Cuda&, View<const bfloat16> x, View<float> y);

}  // namespace gradlibra::kernels
