// SPDX-License-Identifier: MIT
#include "data/images/label_layout.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace gradlibra {

namespace {

int64_t overlap(const PixelRect& a, const PixelRect& b) {
  const int64_t width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1),
                height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  return width > 0 && height > 0 ? width * height : 0;
}

int64_t covered(const PixelRect& label, const std::vector<PixelRect>& rects) {
  int64_t area = 0;
  for (const PixelRect& rect : rects) area += overlap(label, rect);
  return area;
}

// What a place costs; smaller is better, in the order of the members.
struct Cost {
  int64_t labels, boxes, distance;
  friend auto operator<=>(const Cost&, const Cost&) = default;  // NOLINT(modernize-use-nullptr): the 0 of <=> itself
};

class Layout {
 public:
  Layout(int width, int height, const std::vector<PixelRect>& boxes) : width_(width), height_(height), boxes_(boxes) {}

  PixelRect place(const PixelRect& box, int w, int h) {
    best_ = {};
    found_ = false;
    // At the corners, over and under the box first, then at its sides.
    for (const int y : {box.y1 - h, box.y2})
      for (const int x : {box.x1, box.x2 - w}) consider(box, x, y, w, h);
    for (const int x : {box.x2, box.x1 - w})
      for (const int y : {box.y1, box.y2 - h}) consider(box, x, y, w, h);
    if (cost_.labels > 0 || cost_.boxes > 0) {
      const int step = std::max(1, h / 2);
      for (int y = 0; y + h <= height_; y += step)
        for (int x = 0; x + w <= width_; x += step) consider(box, x, y, w, h);
    }
    placed_.push_back(best_);
    return best_;
  }

 private:
  void consider(const PixelRect& box, int x, int y, int w, int h) {
    x = std::clamp(x, 0, std::max(0, width_ - w));
    y = std::clamp(y, 0, std::max(0, height_ - h));
    const PixelRect label{x, y, x + w, y + h};
    const int64_t dx = std::max({0, box.x1 - label.x2, label.x1 - box.x2}),
                  dy = std::max({0, box.y1 - label.y2, label.y1 - box.y2});
    const Cost cost{covered(label, placed_), covered(label, boxes_), dx + dy};
    if (found_ && !(cost < cost_)) return;
    found_ = true;
    cost_ = cost;
    best_ = label;
  }

  int width_, height_;
  const std::vector<PixelRect>& boxes_;
  std::vector<PixelRect> placed_;
  PixelRect best_{};
  Cost cost_{};
  bool found_ = false;
};

}  // namespace

std::vector<PixelRect> place_labels(int width, int height, const std::vector<PixelRect>& boxes,
                                    const std::vector<PixelRect>& sizes) {
  Layout layout(width, height, boxes);
  std::vector<PixelRect> places;
  for (size_t i = 0; i < boxes.size(); ++i)
    places.push_back(layout.place(boxes[i], sizes[i].x2 - sizes[i].x1, sizes[i].y2 - sizes[i].y1));
  return places;
}

}  // namespace gradlibra
