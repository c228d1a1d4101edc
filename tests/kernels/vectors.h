// SPDX-License-Identifier: MIT
// Worked examples from tests/vectors.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/kernels/vector_view.h"
#include "tests/support.h"

namespace gradlibra::testing {

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
template <class T = float>
std::vector<T> filler(const std::string& name, int64_t size, double lo, double hi) {
  uint32_t state = 2166136261u;
  for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 16777619u;
  std::vector<T> values;
  for (int64_t i = 0; i < size; ++i) {
    state = 1664525u * state + 1013904223u;
    values.push_back(static_cast<T>(lo + (hi - lo) * state / 4294967296.0));
  }
  return values;
}

}  // namespace gradlibra::testing
