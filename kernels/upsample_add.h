// SPDX-License-Identifier: MIT
// The top-down step of a feature pyramid: nearest-neighbour upsampling added to the finer level (arXiv:1612.03144, fig.
// 3).
#pragma once

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// y[n,i,j,c] = fine[n,i,j,c] + coarse[n, floor(i*h/H), floor(j*w/W), c], integer arithmetic; sizes need not be a factor
// of 2. coarse (N, h, w, C), fine and y (N, H, W, C); y may be fine. 1 <= h <= H, 1 <= w <= W; N, C may be 0.
// Maps are float or bfloat16; sums are made in float and rounded once.
template <MapType T>
void upsample_add(Cpu&, In<T> coarse, In<T> fine, View<T> y);
template <MapType T>
void upsample_add(Cuda&, In<T> coarse, In<T> fine, View<T> y);

// grad_coarse (+)= sum of grad_y over the fine cells that read a coarse cell, in row-major order of the fine cells.
// (The gradient of `fine` is grad_y itself.)
template <MapType T>
void upsample_add_backward(Cpu&, In<T> grad_y, View<T> grad_coarse, Accumulate mode);
template <MapType T>
void upsample_add_backward(Cuda&, In<T> grad_y, View<T> grad_coarse, Accumulate mode);

// What both versions check first, of either direction.
void check_upsample(const char* op, const Shape& coarse, const Shape& fine);

}  // namespace gradlibra::kernels
