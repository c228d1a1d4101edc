// SPDX-License-Identifier: MIT
// Slides: pictures of up to some 100000 pixels a side, read region by region and never decoded whole where their format
// allows it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "data/images/image.h"

namespace gradlibra {

// An open slide. Pixels as stored: an orientation tag is not followed. Not for several threads at a time.
class Slide {
 public:
  Slide(int width, int height) : width_(width), height_(height) {}
  virtual ~Slide() = default;
  Slide(const Slide&) = delete;
  Slide& operator=(const Slide&) = delete;

  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }

  // Fills `out`, whose size says how much is wanted, with the region whose upper left corner is (x, y) and which lies
  // inside the slide. Cheap where y never decreases: a format that has no way in but its beginning is otherwise decoded
  // again from there. std::runtime_error names the file and why: truncated or corrupt, and where.
  virtual void read(int x, int y, Image& out) = 0;

  // Bytes held at most while regions of `rows` rows are read in this order.
  [[nodiscard]] virtual int64_t memory(int rows) const = 0;

 private:
  int width_, height_;
};

// By content, each by the first that takes it:
//   slides of scanners (SVS, NDPI, MRXS, ..)   OpenSlide, level 0; where it has no data the slide's background colour
//   TIFF and BigTIFF, the first page           libtiff: tiles, strips or rows
//   JPEG                                       libjpeg, row by row; a progressive one is held whole as coefficients
//   PNG                                        libpng, row by row; not an interlaced one
//   all others, and those without the library  decoded whole by read_image(), under its limits
// std::runtime_error names the file and why: not a picture, a header that is corrupt, or more than `memory_bytes`
// needed while regions of `rows` rows are read.
[[nodiscard]] std::unique_ptr<Slide> open_slide(const std::filesystem::path& file, int64_t memory_bytes, int rows = 64);

// Whether a file of this name may be a slide: the extensions of pictures and of scanners' formats.
[[nodiscard]] bool is_slide_name(const std::filesystem::path& file);

// The libraries that this build reads slides with, as "libtiff, libjpeg, libpng, OpenSlide"; each may be missing.
[[nodiscard]] std::string slide_libraries();

}  // namespace gradlibra
