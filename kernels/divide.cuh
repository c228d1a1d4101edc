// SPDX-License-Identifier: MIT
// Device side: division of an index by a size.
#pragma once

#include <cstdint>

#include "kernels/launch.h"

namespace gradlibra::kernels {

// Of 0 <= a. 64-bit division takes about 100 instructions, and nearly every index fits 32 bits.
__device__ inline int64_t divide(int64_t a, int b) {
  return a >> 32 == 0 ? static_cast<int64_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b)) : a / b;
}
__device__ inline int divide(int a, int b) { return a / b; }

}  // namespace gradlibra::kernels
