// SPDX-License-Identifier: MIT
// Blocks of 2 x 2 pixels as one pixel with four times the channels. With it a convolution of stride 2 on few channels,
// such as a network's first on an image, becomes one of stride 1 on more, which tensor cores are made for.
#pragma once

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// out[n, j, i, (2 a + b) C + c] = in[n, 2 j + a + shift, 2 i + b + shift, c],  a, b in {0, 1}; 0 outside of `in`, and
// in the channels from 4 C on. in (N, H, W, C), out (N, H', W', C') with C' >= 4 C; any of them may be empty.
//
// A convolution y[p] = sum_r w[r] x[2 p - padding + r] of stride 2 and R taps (the same along both axes) is one of
// stride 1 and no padding of the two
//   map:    shift = 2 d          H' = P + D - 1, P the rows of y
//   weight: shift = 2 d + padding  H' = D
// with d = floor(-padding / 2), the first block that a result reaches, and D = floor((R - 1 - padding) / 2) - d + 1
// blocks.
template <MapType T>
void space_to_depth(Cpu&, In<T> in, int shift, View<T> out);
template <MapType T>
void space_to_depth(Cuda&, In<T> in, int shift, View<T> out);

// d and D of the above.
struct BlockTaps {
  int first, count;
};
[[nodiscard]] constexpr BlockTaps block_taps(int64_t taps, int padding) {
  const int first = -((padding + 1) / 2), last_tap = static_cast<int>(taps) - 1 - padding;
  const int last = last_tap >= 0 ? last_tap / 2 : -((1 - last_tap) / 2);
  return {first, last - first + 1};
}

// What both versions check first.
void check_space_to_depth(const Shape& in, const Shape& out);

}  // namespace gradlibra::kernels
