// SPDX-License-Identifier: MIT
// What an op's backward closure owns.
#pragma once

#include <memory>
#include <utility>

namespace gradlibra::ops {

// A closure must be copyable for std::function; what it owns is not.
template <class T>
std::shared_ptr<T> shared(T value) {
  return std::make_shared<T>(std::move(value));
}

}  // namespace gradlibra::ops
