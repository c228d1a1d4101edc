// SPDX-License-Identifier: MIT
// Random choices of training data as pure functions of (seed, epoch, position), and what the eight orientations do to
// boxes.
#pragma once

#include <cstdint>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

// Bits of an orientation code, the same as in kernels/image_normalize.h, which turns the pixels: transposition first,
// then the flips.
inline constexpr int32_t kOrientFlipHorizontal = 1;
inline constexpr int32_t kOrientFlipVertical = 2;
inline constexpr int32_t kOrientTranspose = 4;

struct OrientationChoices {
  bool flip_horizontal = false, flip_vertical = false;
  bool half_turns = false, quarter_turns = false;  // quarter turns include the half turn
};

// A permutation of 0 .. images - 1.
[[nodiscard]] std::vector<int64_t> epoch_order(int64_t images, uint64_t seed, int64_t epoch);

// Each flip with probability 1/2; each of the allowed turns (0, 180 or 0, 90, 180, 270 degrees) with the same
// probability.
[[nodiscard]] int32_t random_orientation(const OrientationChoices& choices, uint64_t seed, int64_t epoch,
                                         int64_t position);

// The box after its image of width x height has been oriented: x' = width' - x where flipped, in continuous
// coordinates.
[[nodiscard]] Box orient_box(const Box& box, int32_t orientation, float width, float height);

}  // namespace gradlibra
