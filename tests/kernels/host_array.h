// SPDX-License-Identifier: MIT
// Arrays with a shape, as tests of host kernels need them.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "kernels/view.h"
#include "tests/support.h"

namespace gradlibra::testing {

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
  return {shape, random_floats(shape.size(), seed, lo, hi)};
}

}  // namespace gradlibra::testing
