// SPDX-License-Identifier: MIT
// Max pooling over NHWC, as in ResNet's stem (3x3, stride 2, padding 1).
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct PoolShape {
  int kernel = 3;
  int stride = 2;
  int padding = 1;
};

constexpr int64_t pooled_size(int64_t size, const PoolShape& s) {
  return (size + 2 * s.padding - s.kernel) / s.stride + 1;
}

// y[n,i,j,c] = max over the window; padding counts as -infinity. taps[n,i,j,c] = kr * kernel + kc of the winner: at a
// tie the lowest tap inside the map; NaN wins over everything (the lowest NaN tap).
// x (N, H, W, C); y, taps (N, pooled H, pooled W, C). padding < kernel <= 15; kernel <= size + 2 padding. N, C may be
// 0. Maps are float or bfloat16.
template <MapType T>
void max_pool(Cpu&, In<T> x, const PoolShape& shape, View<T> y, View<uint8_t> taps);
template <MapType T>
void max_pool(Cuda&, In<T> x, const PoolShape& shape, View<T> y, View<uint8_t> taps);

// grad_x (+)= sum over the windows whose winner is this element. A gather: each element of x looks at its windows.
// Summed in float, rounded once.
template <MapType T>
void max_pool_backward(Cpu&, In<T> grad_y, View<const uint8_t> taps, const PoolShape& shape, View<T> grad_x,
                       Accumulate mode);
template <MapType T>
void max_pool_backward(Cuda&, In<T> grad_y, View<const uint8_t> taps, const PoolShape& shape, View<T> grad_x,
                       Accumulate mode);

// What both versions check first, of either direction: x or grad_x, y or grad_y.
void check_max_pool(const char* op, const Shape& x, const Shape& y, const Shape& taps, const PoolShape& shape);

}  // namespace gradlibra::kernels
