// SPDX-License-Identifier: MIT
// What the lanes of a warp give to and get from a warp operation once all of its lanes have come.
#pragma once

#include <array>
#include <cstdint>
#include <source_location>
#include <string>

#include "emulator/block.h"

namespace gradlibra::emulator {

inline constexpr unsigned kLanes = 32;

// A lane's call of a warp operation.
struct Collective {
  WarpOp op;
  unsigned mask;
  uint64_t value;
  int operand, width;
  std::source_location where;
  uint64_t result;
};

// Fills in the results of all lanes in the mask of lanes[caller]; other entries may be null. Returns an empty string,
// or how the lanes' calls differ when they are not one and the same operation.
std::string exchange(const std::array<Collective*, kLanes>& lanes, unsigned caller);

const char* name(WarpOp op);
std::string hex(unsigned mask);
// "(x, y, z)" and "file:line"
std::string to_string(const dim3& d);
std::string to_string(const std::source_location& at);
bool same_place(const std::source_location& a, const std::source_location& b);

}  // namespace gradlibra::emulator
