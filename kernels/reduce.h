// SPDX-License-Identifier: MIT
// Reductions with a fixed order of summation: the same bits in every run and for every number of threads.
#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Elements whose sum is one partial result; partial results are added in order.
inline constexpr int64_t kReduceChunk = 16384;

// out[0] (+)= sum x^2, accumulated in double. x any shape, may be empty (sum 0). workspace: reduce_workspace(x.size())
// doubles.
int64_t reduce_workspace(int64_t size);
void sum_squares(Cpu&, View<const float> x, View<double> out, Accumulate mode, View<double> workspace);
void sum_squares(Cuda&, View<const float> x, View<double> out, Accumulate mode, View<double> workspace);

// out[r] = sum over k of x[r, k]^2, in double: the square of each row's norm. x (R, K), both may be 0; out (R).
void sum_row_squares(Cpu&, View<const float> x, View<double> out);
void sum_row_squares(Cuda&, View<const float> x, View<double> out);

// out[c] (+)= sum over rows of x[row, c]: the gradient of a bias. x (..., C), leading dimensions are rows; may be
// empty. Summed in float within a chunk of rows, in double over the chunks. workspace: sum_rows_workspace(rows, C)
// floats.
int64_t sum_rows_workspace(int64_t rows, int64_t channels);
void sum_rows(Cpu&, View<const float> x, View<float> out, Accumulate mode, View<float> workspace);
void sum_rows(Cuda&, View<const float> x, View<float> out, Accumulate mode, View<float> workspace);
void sum_rows(Cpu&, View<const bfloat16> x, View<float> out, Accumulate mode, View<float> workspace);
void sum_rows(Cuda&, View<const bfloat16> x, View<float> out, Accumulate mode, View<float> workspace);

// relu_backward (kernels/elementwise.h) and the sum of its rows in one pass, for a convolution with bias and ReLU:
//   grad_x[row, c] = y[row, c] > 0 ? grad_y[row, c] : 0,   out[c] (+)= sum over rows of grad_x[row, c]
// y, grad_y, grad_x (..., C) of one shape; grad_x may be grad_y. Workspace as for sum_rows, and on a host, or on a
// device where all three lie on 16-byte boundaries or none does, the bits of its sums.
template <MapType T>
void relu_backward_sum_rows(Cpu&, In<T> y, In<T> grad_y, View<T> grad_x, View<float> out, Accumulate mode,
                            View<float> workspace);
template <MapType T>
void relu_backward_sum_rows(Cuda&, In<T> y, In<T> grad_y, View<T> grad_x, View<float> out, Accumulate mode,
                            View<float> workspace);

// What both versions check first.
void check_reduce(const char* op, int64_t size, View<double> out, View<double> workspace);
void check_sum_row_squares(View<const float> x, View<double> out);
void check_sum_rows(const Shape& x, View<float> out, View<float> workspace);
void check_relu_backward_sum_rows(const Shape& y, const Shape& grad_y, const Shape& grad_x, View<float> out,
                                  View<float> workspace);

}  // namespace gradlibra::kernels
