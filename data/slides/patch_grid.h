// SPDX-License-Identifier: MIT
// Where patches lie on a slide, what they are called, and what becomes of a box at a patch's border.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

// What happens where the slide's side is no whole number of steps.
enum class Edge {
  move,  // the last patch moves inwards and overlaps the one before it by more; a slide smaller than a patch is padded
  pad,   // the last patch stays in the grid and is filled up beyond the slide
};

// First pixels of the patches along a side of `length` pixels, ascending: 0, step, 2 step, .. with step = size -
// overlap, the first that reaches the end being the last. Every pixel is in a patch; neighbours share exactly `overlap`
// pixels, but for the last two with Edge::move. length >= 1, 0 <= overlap < size.
[[nodiscard]] std::vector<int> patch_starts(int length, int size, int overlap, Edge edge);
// How many these are, of either edge. A header of a few bytes can state sides for which the list alone would take all
// memory.
[[nodiscard]] int64_t count_patches(int length, int size, int overlap);
// Of a slide, or tiles of it (tile_plan.h): more than any real one has.
inline constexpr int64_t kMostPatches = int64_t{1} << 24;

// Boxes that a patch's border cuts. With `area`, a patch has a box if at least `share` of its area lies inside; with
// `centre`, if its centre does (left and upper border in, right and lower one out: in a grid without overlap exactly
// one patch). It is cut to the patch. What is left of the others:
struct CutRule {
  enum class By { area, centre };
  // ignore: part of the patch as `difficult` (COCO: iscrowd), no target of training, neither hit nor miss in an
  // evaluation; under one pixel wide or high it is dropped. drop: left out, as background.
  enum class Rest { ignore, drop };
  By by = By::area;
  double share = 0.5;
  Rest rest = Rest::ignore;
  [[nodiscard]] std::string text() const;  // the rule as a sentence
};

enum class BoxFate { outside, whole, cut, ignored, dropped };
struct CutBox {
  BoxFate fate = BoxFate::outside;
  Box box;             // in pixels of the patch; of `whole`, `cut` and `ignored`
  double visible = 0;  // share of the area
};
// `box` in pixels of the slide; the patch covers [x, x + size) x [y, y + size).
[[nodiscard]] CutBox cut_box(const Box& box, int x, int y, int size, const CutRule& rule);

// "slide_x00512_y01024": detections on the patch are on the slide after (x, y) is added.
[[nodiscard]] std::string patch_name(std::string_view slide, int x, int y);
struct PatchPlace {
  std::string slide;
  int x = 0, y = 0;
};
// The reverse, with an extension or without; empty: no such name.
[[nodiscard]] std::optional<PatchPlace> patch_place(std::string_view name);

}  // namespace gradlibra
