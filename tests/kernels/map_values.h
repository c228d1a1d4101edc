// SPDX-License-Identifier: MIT
// Values of a feature map as it is stored, float or bfloat16, and back; for tests that run a kernel on both.
#pragma once

#include <vector>

#include "kernels/map_type.h"

namespace gradlibra::testing {

// Rounded to nearest even where T is bfloat16.
template <MapType T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> result;
  result.reserve(values.size());
  for (const float v : values) result.push_back(from_float<T>(v));
  return result;
}

template <MapType T>
std::vector<float> widened(const std::vector<T>& values) {
  std::vector<float> result;
  result.reserve(values.size());
  for (const T v : values) result.push_back(to_float(v));
  return result;
}

// The values that bfloat16 can hold, as float: what a float version is run on beside the bfloat16 version.
inline std::vector<float> rounded(const std::vector<float>& values) { return widened(stored<bfloat16>(values)); }

// |got - want| <= kBfloat16Step * |want| if both are roundings of nearly the same sum; half of it for one rounding.
inline constexpr double kBfloat16Step = 1.0 / 128;

}  // namespace gradlibra::testing
