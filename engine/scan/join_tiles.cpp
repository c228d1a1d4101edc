// SPDX-License-Identifier: MIT
#include "engine/scan/join_tiles.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "data/metrics/box_overlap.h"

namespace gradlibra {
namespace {

// Some cells wide: most boxes touch one to four squares of it.
constexpr float kSquare = 128;

// The boxes of a class that stay, by the squares that they touch.
class KeptBoxes {
 public:
  [[nodiscard]] bool any_overlaps(const Box& box, double iou) const {
    return any_square(box, [&](int64_t square) {
      const auto here = squares_.find(square);
      return here != squares_.end() && std::any_of(here->second.begin(), here->second.end(),
                                                   [&](const Box& kept) { return box_overlap(kept, box) > iou; });
    });
  }
  void add(const Box& box) {
    any_square(box, [&](int64_t square) {
      squares_[square].push_back(box);
      return false;
    });
  }

 private:
  template <class Visit>
  static bool any_square(const Box& box, const Visit& visit) {
    const auto index = [](float value) { return static_cast<int64_t>(std::floor(value / kSquare)); };
    for (int64_t y = index(box.y1); y <= index(box.y2); ++y)
      for (int64_t x = index(box.x1); x <= index(box.x2); ++x)
        if (visit(y << 32 ^ x)) return true;
    return false;
  }

  std::unordered_map<int64_t, std::vector<Box>> squares_;
};

}  // namespace

std::vector<Detection> join_tiles(std::vector<Detection> found, double iou) {
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  std::unordered_map<int, KeptBoxes> kept;
  std::vector<Detection> joined;
  for (const Detection& d : found) {
    KeptBoxes& same_class = kept[d.label];
    if (same_class.any_overlaps(d.box, iou)) continue;
    same_class.add(d.box);
    joined.push_back(d);
  }
  return joined;
}

}  // namespace gradlibra
