// SPDX-License-Identifier: MIT
#include "kernels/convolution/tensor_core.h"

namespace gradlibra::kernels {

void multiply_tile(Cpu&, View<const bfloat16> a, View<const bfloat16> b, View<float> d) {
  check_multiply_tile(a, b, d);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j)
      for (int k = 0; k < 16; ++k) d[i * 8 + j] += to_float(a[i * 16 + k]) * to_float(b[j * 16 + k]);
}

}  // namespace gradlibra::kernels
