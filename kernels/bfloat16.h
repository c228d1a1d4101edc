// SPDX-License-Identifier: MIT
// bfloat16 storage: the upper half of an IEEE float32. Arithmetic is done in float32.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace gradlibra {

struct bfloat16 {
  uint16_t bits = 0;
};

// Round to nearest, ties to even; NaN stays a (quiet) NaN, overflow becomes infinity.
// (The builtin because to nvcc std::bit_cast is a host function.)
GRADLIBRA_HOST_DEVICE constexpr bfloat16 to_bfloat16(float value) {
  const uint32_t u = __builtin_bit_cast(uint32_t, value);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

GRADLIBRA_HOST_DEVICE constexpr float to_float(bfloat16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}

}  // namespace gradlibra
