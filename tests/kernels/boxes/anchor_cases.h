// SPDX-License-Identifier: MIT
// Inputs for the tests of anchors' assigners.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/boxes/assign_cases.h"

namespace gradlibra::testing {

// Squares of `scales` strides around the corner of every cell, in the order of a network's outputs.
inline std::vector<float> square_anchors(const std::vector<Level>& levels, const std::vector<float>& scales) {
  std::vector<float> anchors;
  for (const Level& level : levels)
    for (int j = 0; j < level.height; ++j)
      for (int i = 0; i < level.width; ++i)
        for (const float scale : scales) {
          const float x = static_cast<float>(i) * level.stride, y = static_cast<float>(j) * level.stride,
                      half = scale * level.stride / 2;
          anchors.insert(anchors.end(), {x - half, y - half, x + half, y + half});
        }
  return anchors;
}

// Flags of N images' priors of which about one in `of` is not valid; none if of is 0.
inline std::vector<uint8_t> random_flags(int64_t size, uint32_t of, std::mt19937& rng) {
  std::vector<uint8_t> flags(static_cast<size_t>(size), 1);
  if (of > 0)
    for (uint8_t& flag : flags) flag = rng() % of != 0;
  return flags;
}

}  // namespace gradlibra::testing
