// SPDX-License-Identifier: MIT
// Host side: the search of assigners.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "kernels/boxes/anchor_geometry.h"

namespace gradlibra::kernels {

inline constexpr int kMaxNearest = 16;

// The k (at most kMaxNearest) priors of [first, last) that are nearest by distance(prior), nearest first, to
// out[0], out[step], ..; `missing` where there are fewer.
template <class Distance>
void nearest_priors(int64_t first, int64_t last, int k, int32_t missing, int32_t* out, int64_t step,
                    Distance&& distance) {
  std::array<Near, kMaxNearest> found;
  int count = 0;
  for (int64_t p = first; p < last; ++p) {
    const Near here{distance(p), static_cast<int>(p)};
    if (!(here.distance < std::numeric_limits<double>::infinity())) continue;
    if (count == k && !nearer(here, found[static_cast<size_t>(k - 1)])) continue;
    int place = count < k ? count++ : k - 1;
    for (; place > 0 && nearer(here, found[static_cast<size_t>(place - 1)]); --place)
      found[static_cast<size_t>(place)] = found[static_cast<size_t>(place - 1)];
    found[static_cast<size_t>(place)] = here;
  }
  for (int j = 0; j < k; ++j) out[j * step] = j < count ? found[static_cast<size_t>(j)].prior : missing;
}

}  // namespace gradlibra::kernels
