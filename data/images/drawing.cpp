// SPDX-License-Identifier: MIT
// Boxes and labels on pictures.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "data/images/bitmap_font.h"
#include "data/images/image.h"
#include "data/images/label_layout.h"

namespace gradlibra {
namespace {

void set_pixel(Image& image, int64_t x, int64_t y, Color color) {
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
  uint8_t* pixel = image.at(static_cast<int>(x), static_cast<int>(y));
  pixel[0] = color.r;
  pixel[1] = color.g;
  pixel[2] = color.b;
}

// Half open on both axes.
void fill(Image& image, int64_t x1, int64_t y1, int64_t x2, int64_t y2, Color color) {
  x1 = std::max<int64_t>(x1, 0);
  y1 = std::max<int64_t>(y1, 0);
  x2 = std::min<int64_t>(x2, image.width);
  y2 = std::min<int64_t>(y2, image.height);
  for (int64_t y = y1; y < y2; ++y) {
    for (int64_t x = x1; x < x2; ++x) set_pixel(image, x, y, color);
  }
}

// Of the glyph for `character` at column x, row y; false outside the glyph.
bool has_ink(unsigned char character, int x, int y) {
  if (x < 0 || y < 0 || x >= kGlyphWidth || y >= kGlyphHeight) return false;
  const int glyph = (character < kFirstGlyph || character > kLastGlyph ? kLastGlyph : character) - kFirstGlyph;
  return kFont[glyph / kGlyphsPerBand][y][glyph % kGlyphsPerBand * kGlyphAdvance + x] == '#';
}

template <class Paint>
void for_each_ink(const std::string& text, int x, int y, int scale, Paint&& paint) {
  int64_t left = x;
  const int64_t top = static_cast<int64_t>(y) - static_cast<int64_t>(kGlyphHeight) * scale;
  for (const char character : text) {
    for (int row = 0; row < kGlyphHeight; ++row) {
      for (int column = 0; column < kGlyphWidth; ++column) {
        if (has_ink(static_cast<unsigned char>(character), column, row))
          paint(left + column * scale, top + row * scale);
      }
    }
    left += static_cast<int64_t>(kGlyphAdvance) * scale;
  }
}

}  // namespace

// Ten that stay apart under each kind of colour blindness and from stained tissue (tests/data/images/test_drawing.cpp
// simulates it), then hues by the golden ratio.
Color class_color(int label) {
  constexpr Color kApart[] = {{0, 0, 255},     {210, 50, 0},   {0, 210, 210}, {90, 50, 90}, {255, 170, 0},
                              {170, 210, 130}, {170, 90, 255}, {0, 130, 90},  {130, 0, 0},  {170, 50, 170}};
  if (label >= 0 && label < static_cast<int>(std::size(kApart))) return kApart[label];
  // Hues a golden section of the circle apart never come close to each other's neighbours; three shades tell later
  // rounds from earlier ones.
  constexpr double kGoldenSection = 0.61803398874989485;
  const int index = std::max(label, 0);
  const double turns = index * kGoldenSection + 0.02;
  const double hue = 6 * (turns - std::floor(turns));  // [0, 6)
  const double value = index % 3 == 2 ? 0.75 : 1.0, saturation = index % 3 == 1 ? 0.6 : 0.95;
  const auto channel = [&](double offset) {
    const double k = std::fmod(offset + hue, 6.0);
    const double share = std::clamp(std::min(k, 4 - k), 0.0, 1.0);
    return static_cast<uint8_t>(255 * value * (1 - saturation * share) + 0.5);
  };
  return {channel(5), channel(3), channel(1)};
}

void draw_box(Image& image, float x1, float y1, float x2, float y2, Color color, int thickness, LineStyle style) {
  if (!(std::isfinite(x1) && std::isfinite(y1) && std::isfinite(x2) && std::isfinite(y2)) || thickness < 1) return;
  const auto edge = [](float v, int size) {  // a side far outside stays just outside, so that it is not drawn
    return static_cast<int64_t>(std::lround(std::clamp(v, -65536.f, static_cast<float>(size) + 65536.f)));
  };
  const int64_t left = edge(std::min(x1, x2), image.width),
                right = std::max(edge(std::max(x1, x2), image.width), left + 1);
  const int64_t top = edge(std::min(y1, y2), image.height),
                bottom = std::max(edge(std::max(y1, y2), image.height), top + 1);
  const int64_t across = std::min<int64_t>(thickness, right - left), down = std::min<int64_t>(thickness, bottom - top);
  const int64_t period = style == LineStyle::solid ? std::max(right - left, bottom - top) : 3 * thickness + 3;
  const int64_t dash = style == LineStyle::solid ? period : period / 2;
  // Only what lies in the picture, and in step with the box's corner.
  const auto first = [&](int64_t from) { return from < 0 ? from % period : from; };
  for (int64_t x = first(left); x < std::min<int64_t>(right, image.width); x += period) {
    const int64_t end = std::min(x + dash, right);
    fill(image, std::max(x, left), top, end, top + down, color);
    fill(image, std::max(x, left), bottom - down, end, bottom, color);
  }
  for (int64_t y = first(top); y < std::min<int64_t>(bottom, image.height); y += period) {
    const int64_t end = std::min(y + dash, bottom);
    fill(image, left, std::max(y, top), left + across, end, color);
    fill(image, right - across, std::max(y, top), right, end, color);
  }
}

void draw_text(Image& image, int x, int y, const std::string& text, Color color, int scale) {
  if (scale < 1) return;
  const int luma = 299 * color.r + 587 * color.g + 114 * color.b;  // ITU-R BT.601, thousandths
  const Color rim = luma > 110'000 ? Color{0, 0, 0} : Color{255, 255, 255};
  for_each_ink(text, x, y, scale, [&](int64_t left, int64_t top) {
    fill(image, left - 1, top - 1, left + scale + 1, top + scale + 1, rim);
  });
  for_each_ink(text, x, y, scale,
               [&](int64_t left, int64_t top) { fill(image, left, top, left + scale, top + scale, color); });
}

void draw_labelled_boxes(Image& image, const std::vector<LabelledBox>& boxes) {
  constexpr int kRim = 1;
  std::vector<PixelRect> rects, sizes;
  const auto pixel = [](float v, int size) {
    return static_cast<int>(std::lround(std::clamp(std::isfinite(v) ? v : 0.f, 0.f, static_cast<float>(size))));
  };
  for (const LabelledBox& box : boxes) {
    rects.push_back({pixel(box.x1, image.width), pixel(box.y1, image.height), pixel(box.x2, image.width),
                     pixel(box.y2, image.height)});
    sizes.push_back({0, 0, static_cast<int>(box.text.size()) * kGlyphAdvance + 2 * kRim, kGlyphHeight + 2 * kRim});
  }
  const std::vector<PixelRect> places = place_labels(image.width, image.height, rects, sizes);
  for (size_t i = boxes.size(); i-- > 0;)  // the first on top
    draw_box(image, boxes[i].x1, boxes[i].y1, boxes[i].x2, boxes[i].y2, class_color(boxes[i].label), 2, boxes[i].style);
  for (size_t i = 0; i < boxes.size(); ++i)
    draw_text(image, places[i].x1 + kRim, places[i].y2 - kRim, boxes[i].text, class_color(boxes[i].label));
}

}  // namespace gradlibra
