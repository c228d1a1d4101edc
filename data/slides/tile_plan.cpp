// SPDX-License-Identifier: MIT
#include "data/slides/tile_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "data/slides/patch_grid.h"

namespace gradlibra {
namespace {

struct Span {
  int begin = 0;
  float own_begin = 0, own_end = 0;
};

// Tiles along one side.
std::vector<Span> spans(int length, int size, int overlap) {
  const std::vector<int> starts = patch_starts(length, size, overlap, Edge::move);
  const int reach = std::min(size, length);
  const auto slack = static_cast<float>(tile_slack(overlap));
  // The middle of what tile i and the next have in common.
  const auto middle = [&](size_t i) { return static_cast<float>(int64_t{starts[i + 1]} + starts[i] + reach) / 2; };
  std::vector<Span> result;
  for (size_t i = 0; i < starts.size(); ++i) {
    const bool first = i == 0, last = i + 1 == starts.size();
    result.push_back(
        {starts[i], first ? 0.f : middle(i - 1) - slack, last ? static_cast<float>(length) : middle(i) + slack});
  }
  return result;
}

}  // namespace

bool Tile::owns(const Box& box) const {
  const float cx = box.x1 + (box.x2 - box.x1) / 2, cy = box.y1 + (box.y2 - box.y1) / 2;
  return cx >= own.x1 && cx < own.x2 && cy >= own.y1 && cy < own.y2;
}

std::vector<Tile> plan_tiles(int slide_width, int slide_height, int tile_width, int tile_height, int overlap) {
  const int64_t count =
      count_patches(slide_width, tile_width, overlap) * count_patches(slide_height, tile_height, overlap);
  if (count > kMostTiles)
    throw std::invalid_argument(
        fmt::format("{} x {} pixels are {} tiles of {} x {}, more than {}: larger tiles or less overlap are needed",
                    slide_width, slide_height, count, tile_width, tile_height, kMostTiles));
  const std::vector<Span> columns = spans(slide_width, tile_width, overlap);
  const std::vector<Span> rows = spans(slide_height, tile_height, overlap);
  std::vector<Tile> tiles;
  tiles.reserve(static_cast<size_t>(count));
  for (const Span& row : rows)
    for (const Span& column : columns)
      tiles.push_back({column.begin, row.begin, {column.own_begin, row.own_begin, column.own_end, row.own_end}});
  return tiles;
}

}  // namespace gradlibra
