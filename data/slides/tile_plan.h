// SPDX-License-Identifier: MIT
// Tiles through which a detector looks at a whole slide.
#pragma once

#include <cstdint>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/slides/patch_grid.h"

namespace gradlibra {

// A region of the slide, and the part of it for whose objects it answers, both in pixels of the slide. It reaches
// beyond a slide that is smaller than a tile.
struct Tile {
  int x = 0, y = 0;
  Box own;
  // Whether the centre of a box (in pixels of the slide) lies in `own`: left and upper border in, the others out.
  [[nodiscard]] bool owns(const Box& box) const;
};

// What `own` reaches beyond the middle of an overlap: two tiles see an object there by a pixel or two apart, and each
// could leave it to the other. What both have is told by its overlap (engine/scan/join_tiles.h).
[[nodiscard]] constexpr int tile_slack(int overlap) { return overlap / 8; }

// Row by row, so that regions of one slide never go up. Neighbours share at least `overlap` pixels (patch_starts() with
// Edge::move). Every point of the slide has an owner, and an
// object of up to overlap - 2 tile_slack(overlap) pixels lies wholly in each tile that owns it. Sizes are at least 1,
// 0 <= overlap < both sides of a tile: std::invalid_argument; so are more than
// kMostTiles.
inline constexpr int64_t kMostTiles = kMostPatches;
[[nodiscard]] std::vector<Tile> plan_tiles(int slide_width, int slide_height, int tile_width, int tile_height,
                                           int overlap);

}  // namespace gradlibra
