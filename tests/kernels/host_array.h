// SPDX-License-Identifier: MIT
// What a test of a host kernel needs: arrays with a shape, reproducible values, comparisons that NaN fails.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/view.h"

namespace gradlibra::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
struct Array {
  Shape shape;
  std::vector<T> values;

  Array(Shape shape_, std::vector<T> values_) : shape(shape_), values(std::move(values_)) {
    if (static_cast<int64_t>(values.size()) != shape.size()) throw std::invalid_argument("Array: size");
  }
  explicit Array(Shape shape_, T value = std::numeric_limits<T>::quiet_NaN())
      : shape(shape_), values(static_cast<size_t>(shape_.size()), value) {}

  [[nodiscard]] View<T> view() { return {values.data(), shape}; }
  [[nodiscard]] View<const T> view() const { return {values.data(), shape}; }
  [[nodiscard]] int64_t size() const { return shape.size(); }
  T& operator[](int64_t i) { return values[static_cast<size_t>(i)]; }
  const T& operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
};

using Floats = Array<float>;

// Uniform in [lo, hi), the same for a given seed on any machine.
inline Floats random_array(Shape shape, uint32_t seed, float lo = -1, float hi = 1) {
  std::mt19937 rng(seed);
  Floats a(shape);
  for (float& v : a.values) v = lo + (hi - lo) * static_cast<float>(rng() >> 8) / 16777216.0f;
  return a;
}

// False for NaN.
[[nodiscard]] inline bool is_near(double got, double want, double atol, double rtol = 0) {
  return std::abs(got - want) <= atol + rtol * std::abs(want);
}

template <class T, class U>
void expect_near(const std::vector<T>& got, const std::vector<U>& want, double atol, double rtol = 0) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(is_near(static_cast<double>(got[i]), static_cast<double>(want[i]), atol, rtol))
        << "element " << i << ": got " << static_cast<double>(got[i]) << ", want " << static_cast<double>(want[i]);
}

// Equal, NaN to NaN.
inline void expect_same(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
        << "element " << i << ": got " << got[i] << ", want " << want[i];
}

}  // namespace gradlibra::testing
