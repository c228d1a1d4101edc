// SPDX-License-Identifier: MIT
#include "collective.h"

#include <bit>
#include <cstring>
#include <sstream>

namespace gradlibra::emulator {
namespace {

// Calls f(lane) for each lane in the mask, the lowest first.
template <class F>
void for_each_lane(unsigned mask, F&& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<int>(std::countr_zero(mask)));
}

// The lane whose value a shuffle gives to `lane` (Programming Guide, "Warp Shuffle Functions"): lanes beyond the
// segment of `width` lanes give way to the lane itself; xor may reach into an earlier segment only.
int source_lane(const Collective& c, int lane) {
  const int first = lane & ~(c.width - 1), end = first + c.width;
  const auto kept = [&](int source) { return source >= first && source < end ? source : lane; };
  switch (c.op) {
    case WarpOp::shuffle_index:
      return first + (c.operand & (c.width - 1));
    case WarpOp::shuffle_up:
      return kept(lane - c.operand);
    case WarpOp::shuffle_down:
      return kept(lane + c.operand);
    case WarpOp::shuffle_xor:
      return (lane ^ c.operand) < end ? lane ^ c.operand : lane;
    default:
      return lane;
  }
}

}  // namespace

std::string exchange(const std::array<Collective*, kLanes>& lanes, unsigned caller) {
  const Collective& mine = *lanes[caller];
  const unsigned mask = mine.mask;
  std::string difference;
  unsigned not_zero = 0;
  for_each_lane(mask, [&](int lane) {
    const Collective& c = *lanes[lane];
    if (c.op != mine.op || c.mask != mask || (c.op != WarpOp::sync && !same_place(c.where, mine.where)))
      difference = "lanes of a warp wait in different operations: " + std::string(name(mine.op)) + " at " +
                   to_string(mine.where) + " with mask " + hex(mask) + ", and lane " + std::to_string(lane) + " in " +
                   name(c.op) + " at " + to_string(c.where) + " with mask " + hex(c.mask);
    if (c.value != 0) not_zero |= 1u << lane;
  });
  if (!difference.empty()) return difference;

  for_each_lane(mask, [&](int lane) {
    Collective& c = *lanes[lane];
    if (c.op == WarpOp::ballot) {
      c.result = not_zero;
    } else if (c.op == WarpOp::match) {
      for_each_lane(mask, [&](int other) {
        if (lanes[other]->value == c.value) c.result |= 1u << other;
      });
    } else if (c.op != WarpOp::sync) {
      const int source = source_lane(c, lane);
      // The value of a lane that takes no part is undefined: all ones is NaN, or -1.
      c.result = source >= 0 && source < 32 && (mask >> source & 1u) != 0 ? lanes[source]->value : ~uint64_t{0};
    }
  });
  return {};
}

const char* name(WarpOp op) {
  switch (op) {
    case WarpOp::sync:
      return "__syncwarp";
    case WarpOp::shuffle_index:
      return "__shfl_sync";
    case WarpOp::shuffle_up:
      return "__shfl_up_sync";
    case WarpOp::shuffle_down:
      return "__shfl_down_sync";
    case WarpOp::shuffle_xor:
      return "__shfl_xor_sync";
    case WarpOp::ballot:
      return "__ballot_sync";
    case WarpOp::match:
      return "__match_any_sync";
  }
  return "?";
}

std::string hex(unsigned mask) {
  std::ostringstream s;
  s << "0x" << std::hex << mask;
  return s.str();
}

std::string to_string(const dim3& d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

std::string to_string(const std::source_location& at) {
  return std::string(at.file_name()) + ":" + std::to_string(at.line());
}

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

}  // namespace gradlibra::emulator
