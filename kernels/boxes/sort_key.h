// SPDX-License-Identifier: MIT
// A score and its index as one unsigned number: ascending numbers are descending scores, at ties ascending indices.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// The upper half of the keys that are left out, which come behind all others. No score has it: -infinity, the last, has
// 0xff800000.
inline constexpr uint32_t kLeftOut = 0xffffffffu;

// The key of score[index], of one that is left out where `chosen` is false. 0 and -0 are the same score.
GRADLIBRA_HOST_DEVICE inline uint64_t sort_key(float score, int32_t index, bool chosen) {
  uint32_t bits = score == 0 ? 0 : __builtin_bit_cast(uint32_t, score);
  // A positive float's bits grow with it; a negative one's shrink, and its sign bit would put it above all positive
  // ones.
  bits = (bits >> 31) != 0 ? bits : bits ^ 0x7fffffffu;
  return uint64_t{chosen ? bits : kLeftOut} << 32 | static_cast<uint32_t>(index);
}

// The index of a key, -1 if it is left out.
GRADLIBRA_HOST_DEVICE inline int32_t sorted_index(uint64_t key) {
  return key >> 32 == kLeftOut ? -1 : static_cast<int32_t>(key);
}

}  // namespace gradlibra::kernels
