// SPDX-License-Identifier: MIT
// Strided row copies: one pyramid level into or out of the tensor that holds all levels of an image one after the
// other.
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// For n < N, r < rows, c < C:   y[n, y_offset + r, c] (+)= x[n, x_offset + r, c]
// x (N, X, C), y (N, Y, C);  x_offset + rows <= X, y_offset + rows <= Y. Any of N, rows, C may be 0.
// Concatenation copies (N, H*W, C) with y_offset = rows of the finer levels; its gradient copies back with x_offset.
void copy_rows(Cpu&, View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows,
               Accumulate mode);
void copy_rows(Cuda&, View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows,
               Accumulate mode);

// What both versions check first.
void check_copy_rows(View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows);

}  // namespace gradlibra::kernels
