// SPDX-License-Identifier: MIT
// Where the labels of boxes go on a picture: beside them, not on each other and not on what the boxes show.
#pragma once

#include <vector>

#include "data/images/image.h"

namespace gradlibra {

// In pixels, half open: [x1, x2) x [y1, y2).
struct PixelRect {
  int x1, y1, x2, y2;
};

// The place of each label, `boxes` and `sizes` (width and height as x2 - x1, y2 - y1) in the same order, which is that
// of their importance. All lie inside the picture if they fit into it. No label covers another while there is room for
// all; among such places the nearest that covers no box is taken, and where none is free, that which covers the least.
[[nodiscard]] std::vector<PixelRect> place_labels(int width, int height, const std::vector<PixelRect>& boxes,
                                                  const std::vector<PixelRect>& sizes);

}  // namespace gradlibra
