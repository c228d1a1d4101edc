// SPDX-License-Identifier: MIT
// Inputs for the tests of assigners: priors of a pyramid, and ground truth whose centres and sizes tie often.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace gradlibra::testing {

struct Level {
  int height, width;
  float stride;
};

// Points (x, y, stride) of all levels, each row-major.
inline std::vector<float> point_priors(const std::vector<Level>& levels) {
  std::vector<float> priors;
  for (const Level& level : levels)
    for (int j = 0; j < level.height; ++j)
      for (int i = 0; i < level.width; ++i)
        priors.insert(priors.end(),
                      {static_cast<float>(i) * level.stride, static_cast<float>(j) * level.stride, level.stride});
  return priors;
}

// Boxes with corners on multiples of `grid` in a `size` x `size` image, up to a random 2^-n of its size wide: many
// share points, centres and overlaps; some are empty.
inline std::vector<float> random_boxes(int64_t count, float size, float grid, std::mt19937& rng) {
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> boxes;
  for (int64_t i = 0; i < count; ++i) {
    const float reach = size / static_cast<float>(1u << rng() % 6);
    const auto snap = [&](float v) { return grid > 0 ? grid * static_cast<float>(static_cast<int>(v / grid)) : v; };
    const float x = snap(uniform(rng) * size), y = snap(uniform(rng) * size);
    boxes.insert(boxes.end(), {x, y, x + snap(uniform(rng) * reach), y + snap(uniform(rng) * reach)});
  }
  return boxes;
}

}  // namespace gradlibra::testing
