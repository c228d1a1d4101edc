// SPDX-License-Identifier: MIT
#include "data/slides/patch_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "data/images/image.h"

namespace gradlibra {

namespace {

void check_grid(int length, int size, int overlap) {
  if (length < 1 || size < 1 || overlap < 0 || overlap >= size)
    throw std::invalid_argument(
        fmt::format("patch_starts: length {}, size {}, overlap {}: the overlap must be 0 or more and below the size",
                    length, size, overlap));
}

}  // namespace

int64_t count_patches(int length, int size, int overlap) {
  check_grid(length, size, overlap);
  const int64_t step = size - overlap;
  return length <= size ? 1 : 1 + (static_cast<int64_t>(length) - size + step - 1) / step;
}

std::vector<int> patch_starts(int length, int size, int overlap, Edge edge) {
  check_grid(length, size, overlap);
  std::vector<int> starts;
  starts.reserve(static_cast<size_t>(count_patches(length, size, overlap)));
  const int64_t step = size - overlap;
  int64_t start = 0;
  for (; start + size < length; start += step) starts.push_back(static_cast<int>(start));
  if (edge == Edge::move) start = std::max<int64_t>(0, length - size);
  starts.push_back(static_cast<int>(start));
  return starts;
}

std::string CutRule::text() const {
  const std::string kept =
      by == By::centre ? "its centre lies inside" : fmt::format("at least {:g} of its area lies inside", share);
  return fmt::format("a patch has a box, cut at its border, if {}; what else is left of a box is {}", kept,
                     rest == Rest::ignore ? "ignored (difficult, iscrowd)" : "dropped");
}

CutBox cut_box(const Box& box, int x, int y, int size, const CutRule& rule) {
  const double left = x, top = y, right = left + size, bottom = top + size;
  const double x1 = std::max<double>(box.x1, left), y1 = std::max<double>(box.y1, top);
  const double x2 = std::min<double>(box.x2, right), y2 = std::min<double>(box.y2, bottom);
  CutBox out;
  if (!(x1 < x2 && y1 < y2)) return out;
  const double area = (static_cast<double>(box.x2) - box.x1) * (static_cast<double>(box.y2) - box.y1);
  out.box = {static_cast<float>(x1 - left), static_cast<float>(y1 - top), static_cast<float>(x2 - left),
             static_cast<float>(y2 - top)};
  out.visible = (x2 - x1) * (y2 - y1) / area;
  const bool whole = x1 == box.x1 && y1 == box.y1 && x2 == box.x2 && y2 == box.y2;
  const double cx = (static_cast<double>(box.x1) + box.x2) / 2, cy = (static_cast<double>(box.y1) + box.y2) / 2;
  const bool has =
      rule.by == CutRule::By::centre ? cx >= left && cx < right && cy >= top && cy < bottom : out.visible >= rule.share;
  if (whole || has) {
    out.fate = whole ? BoxFate::whole : BoxFate::cut;
    return out;
  }
  const bool visible = x2 - x1 >= 1 && y2 - y1 >= 1;
  out.fate = rule.rest == CutRule::Rest::ignore && visible ? BoxFate::ignored : BoxFate::dropped;
  return out;
}

std::string patch_name(std::string_view slide, int x, int y) { return fmt::format("{}_x{:05}_y{:05}", slide, x, y); }

std::optional<PatchPlace> patch_place(std::string_view name) {
  for (const ImageExtension& known : kImageExtensions) {
    const std::string_view extension(known.text);
    if (name.ends_with(extension)) name.remove_suffix(extension.size());
  }
  // Takes "_y01024" off the end.
  const auto take = [&](std::string_view mark, int& value) {
    const size_t at = name.rfind(mark);
    if (at == std::string_view::npos) return false;
    const std::string_view digits = name.substr(at + mark.size());
    if (digits.empty() || digits.front() < '0' || digits.front() > '9') return false;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) return false;
    name = name.substr(0, at);
    return true;
  };
  PatchPlace place;
  if (!take("_y", place.y) || !take("_x", place.x)) return std::nullopt;
  place.slide = std::string(name);
  return place;
}

}  // namespace gradlibra
