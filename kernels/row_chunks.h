// SPDX-License-Identifier: MIT
// How a sum over the rows of an (R, C) array is cut, on the host and on the device: bounds that depend on the shape
// only.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// About 16 Ki elements: 64 KiB stay in a core's cache, and a few hundred sequential float additions stay accurate.
GRADLIBRA_HOST_DEVICE constexpr int64_t rows_per_chunk(int64_t channels) {
  const int64_t rows = 16384 / (channels > 0 ? channels : 1);
  return rows < 32 ? 32 : rows > 1024 ? 1024 : rows;
}

GRADLIBRA_HOST_DEVICE constexpr int64_t row_chunks(int64_t rows, int64_t channels) {
  return (rows + rows_per_chunk(channels) - 1) / rows_per_chunk(channels);
}

}  // namespace gradlibra::kernels
