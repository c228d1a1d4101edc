// SPDX-License-Identifier: MIT
// The types a feature map and its gradient may be stored as. Arithmetic is float32; a value is rounded once, as it is
// stored.
#pragma once

#include <concepts>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra {

template <class T>
concept MapType = std::same_as<T, float> || std::same_as<T, bfloat16>;

// An input map of a typed kernel. Not deduced: T follows from the output, and a View<T> still converts to View<const
// T>.
template <class T>
using In = View<const std::type_identity_t<T>>;

// Beside to_float(bfloat16), so that one template reads both types.
GRADLIBRA_HOST_DEVICE constexpr float to_float(float value) { return value; }

// The value as it is stored: a float as it is, a bfloat16 rounded to nearest, ties to even.
template <MapType T>
GRADLIBRA_HOST_DEVICE constexpr T from_float(float value) {
  if constexpr (std::same_as<T, float>)
    return value;
  else
    return to_bfloat16(value);
}

}  // namespace gradlibra
