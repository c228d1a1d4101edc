// SPDX-License-Identifier: MIT
// Which cells of a batch's pyramid belong to an image, and which lie in the padding that a larger image of the batch
// asked for.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// MMDetection's valid flags. An image of height x width alone would be padded to multiples of `divisor`; cell (i, j) of
// a level with stride s is valid if i < ceil(padded width / s) and j < ceil(padded height / s). priors (P, 3): x = i s,
// y = j s (a cell's corner), s, so that this is x < padded width and y < padded height. sizes (N, 2): height, width of
// each stored image and orientations (N): kernels/image_normalize.h; a transposed image has them swapped. An image
// without pixels has no valid cell. valid (N, P): 1 or 0. N or P may be 0.
void valid_cells(Cpu&, View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                 int divisor, View<uint8_t> valid);
void valid_cells(Cuda&, View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                 int divisor, View<uint8_t> valid);

// What both versions check first.
void check_valid_cells(View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                       int divisor, View<uint8_t> valid);

}  // namespace gradlibra::kernels
