// SPDX-License-Identifier: MIT
// Worked examples from tests/vectors, and host arrays as views.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/view.h"

namespace gradlibra::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline nlohmann::json read_vectors(const std::string& name) {
  std::ifstream file(std::string(GRADLIBRA_TEST_VECTORS) + "/" + name + ".json");
  return nlohmann::json::parse(file);
}

// A number, or one of the strings "NaN", "Infinity", "-Infinity".
inline double number(const nlohmann::json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

// All numbers of a nested list, row-major.
template <class T = double>
std::vector<T> flatten(const nlohmann::json& nested) {
  if (!nested.is_array()) return {static_cast<T>(number(nested))};
  std::vector<T> values;
  for (const auto& part : nested)
    for (const T v : flatten<T>(part)) values.push_back(v);
  return values;
}

// The generator of large example tensors: 32-bit FNV-1a of the name seeds a linear congruential sequence.
inline std::vector<float> filler(const std::string& name, int64_t size, double lo, double hi) {
  uint32_t state = 2166136261u;
  for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 16777619u;
  std::vector<float> values;
  for (int64_t i = 0; i < size; ++i) {
    state = 1664525u * state + 1013904223u;
    values.push_back(static_cast<float>(lo + (hi - lo) * state / 4294967296.0));
  }
  return values;
}

template <class T>
View<T> view(std::vector<T>& values, Shape shape) {
  EXPECT_EQ(static_cast<int64_t>(values.size()), shape.size());
  return {values.data(), shape};
}
template <class T>
View<const T> view(const std::vector<T>& values, Shape shape) {
  EXPECT_EQ(static_cast<int64_t>(values.size()), shape.size());
  return {values.data(), shape};
}

// |got - want| <= atol + rtol * |want|; NaN is near NaN only, an infinity near itself only.
[[nodiscard]] inline ::testing::AssertionResult near(double got, double want, double atol, double rtol) {
  const bool ok = std::isnan(want)   ? std::isnan(got)
                  : std::isinf(want) ? got == want
                                     : std::abs(got - want) <= atol + rtol * std::abs(want);
  if (ok) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << ::testing::PrintToString(got) << " is not " << ::testing::PrintToString(want)
                                       << " within " << atol << " + " << rtol << " * |want|";
}

// The same bits, so that NaN equals itself and -0 is not 0.
template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace gradlibra::testing
