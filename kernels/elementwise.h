// SPDX-License-Identifier: MIT
// Elementwise kernels: fill, copy, add, scale, ReLU and the residual add + ReLU, casts between float32 and bfloat16.
#pragma once

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// All views of one call have the same number of elements (checked), but for the row of subtract_row; shapes are
// otherwise ignored. Empty views are legal. Outputs may be the same array as an input, never an overlapping other one.
// T is float or bfloat16; sums are made in float and rounded once, also with Accumulate::add.

// What every function with inputs checks first.
template <class A, class B>
void require_same_size(const char* op, const View<A>& a, const View<B>& b) {
  require(a.size() == b.size(), op, a.shape().to_string() + " and " + b.shape().to_string() + " differ in size");
}

// y = value
template <MapType T>
void fill(Cpu&, View<T> y, float value);
template <MapType T>
void fill(Cuda&, View<T> y, float value);

// y = x (overwrite) or y += x (add)
template <MapType T>
void copy(Cpu&, In<T> x, View<T> y, Accumulate mode);
template <MapType T>
void copy(Cuda&, In<T> x, View<T> y, Accumulate mode);

// y = factor * x (overwrite) or y += factor * x (add)
template <MapType T>
void scale(Cpu&, In<T> x, float factor, View<T> y, Accumulate mode);
template <MapType T>
void scale(Cuda&, In<T> x, float factor, View<T> y, Accumulate mode);

// y = a + b
template <MapType T>
void add(Cpu&, In<T> a, In<T> b, View<T> y);
template <MapType T>
void add(Cuda&, In<T> a, In<T> b, View<T> y);

// y[r, c] = x[r, c] - row[c]. x and y (..., C): leading dimensions are rows. row (C).
void subtract_row(Cpu&, View<const float> x, View<const float> row, View<float> y);
void subtract_row(Cuda&, View<const float> x, View<const float> row, View<float> y);

// y = max(x, 0); NaN stays NaN.
template <MapType T>
void relu(Cpu&, In<T> x, View<T> y);
template <MapType T>
void relu(Cuda&, In<T> x, View<T> y);

// y = max(a + b, 0); NaN stays NaN. The end of a residual block.
template <MapType T>
void add_relu(Cpu&, In<T> a, In<T> b, View<T> y);
template <MapType T>
void add_relu(Cuda&, In<T> a, In<T> b, View<T> y);

// grad_x (+)= y > 0 ? grad_y : 0, from the output y of relu or add_relu (the gradient at exactly 0 is 0).
// For add_relu both inputs get this same gradient.
template <MapType T>
void relu_backward(Cpu&, In<T> y, In<T> grad_y, View<T> grad_x, Accumulate mode);
template <MapType T>
void relu_backward(Cuda&, In<T> y, In<T> grad_y, View<T> grad_x, Accumulate mode);

// y (+)= x in the other type. Round to nearest even (kernels/bfloat16.h); NaN stays NaN, on the device with other bits.
void cast(Cpu&, View<const float> x, View<bfloat16> y, Accumulate mode = Accumulate::overwrite);
void cast(Cuda&, View<const float> x, View<bfloat16> y, Accumulate mode = Accumulate::overwrite);
void cast(Cpu&, View<const bfloat16> x, View<float> y, Accumulate mode = Accumulate::overwrite);
void cast(Cuda&, View<const bfloat16> x, View<float> y, Accumulate mode = Accumulate::overwrite);

// What both versions of subtract_row check first.
void check_subtract_row(View<const float> x, View<const float> row, View<float> y);

}  // namespace gradlibra::kernels
