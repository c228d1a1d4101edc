// SPDX-License-Identifier: MIT
// Host vectors as views.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/view.h"

namespace gradlibra::testing {

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

}  // namespace gradlibra::testing
