// SPDX-License-Identifier: MIT
// Host side: a row of channels of an output map while values are added to it, in float whatever the map is stored as.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Channels of one RowSum at most; their sums stay in the L1 cache.
inline constexpr int64_t kRowTile = 256;

// Starts at 0 (overwrite) or at what the row holds (add). A float row is summed in place; a bfloat16 row is rounded
// once, by finish().
template <MapType T>
class RowSum {
 public:
  RowSum(T* row, int64_t channels, Accumulate mode) : row_(row), channels_(channels) {
    if (mode == Accumulate::overwrite)
      std::fill(data(), data() + channels, 0.0f);
    else if constexpr (!kInPlace)
      for (int64_t c = 0; c < channels; ++c) sum_[c] = to_float(row[c]);
  }
  [[nodiscard]] float* data() {
    if constexpr (kInPlace)
      return row_;
    else
      return sum_;
  }
  void finish() {
    if constexpr (!kInPlace)
      for (int64_t c = 0; c < channels_; ++c) row_[c] = from_float<T>(sum_[c]);
  }

 private:
  static constexpr bool kInPlace = std::same_as<T, float>;
  T* row_;
  int64_t channels_;
  float sum_[kInPlace ? 1 : kRowTile];
};

}  // namespace gradlibra::kernels
