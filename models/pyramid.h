// SPDX-License-Identifier: MIT
// The maps between a neck and a head.
#pragma once

#include <vector>

namespace gradlibra {

// Levels, the finest first: (N, H / stride, W / stride, channels) each, sizes rounded up.
struct Pyramid {
  int channels = 0;
  std::vector<int> strides;  // in input pixels
};

}  // namespace gradlibra
