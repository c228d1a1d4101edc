// SPDX-License-Identifier: MIT
// One matrix product of the size that a tensor core multiplies: shows and tests the instructions of
// kernels/convolution/tensor_core.cuh.
#pragma once

#include "kernels/bfloat16.h"
#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// d[i, j] += sum over k of a[i, k] * b[j, k], in float. a (16, 16), b (8, 16), d (16, 8); a and b aligned to 16 bytes.
// The order of the sum differs between the two versions: equal where every partial sum is exact.
void multiply_tile(Cpu&, View<const bfloat16> a, View<const bfloat16> b, View<float> d);
void multiply_tile(Cuda&, View<const bfloat16> a, View<const bfloat16> b, View<float> d);

// What both versions check first.
inline void check_multiply_tile(View<const bfloat16> a, View<const bfloat16> b, View<float> d) {
  require_shape("multiply_tile", "a", a, {16, 16});
  require_shape("multiply_tile", "b", b, {8, 16});
  require_shape("multiply_tile", "d", d, {16, 8});
}

}  // namespace gradlibra::kernels
