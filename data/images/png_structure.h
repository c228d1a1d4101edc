// SPDX-License-Identifier: MIT
// What a PNG file says outside its pixels, and whether all of it is there: the decoder looks neither at check sums nor
// at the orientation.
#pragma once

#include <span>
#include <string>

namespace gradlibra {

struct PngStructure {
  std::string problem;       // truncated, or a chunk whose check sum is wrong; empty: sound to its end
  int exif_orientation = 1;  // of the eXIf chunk, 1..8
  int bits = 8;              // per sample: 1, 2, 4, 8 or 16
  int frames = 1;            // more: an animation (acTL)
};

// Walks the chunks (PNG 3rd edition, section 5) to the last, since eXIf may come behind the pixels. Never reads outside
// `bytes`. With `header_only` check sums are left alone, and nothing is called truncated.
[[nodiscard]] PngStructure png_structure(std::span<const unsigned char> bytes, bool header_only = false);

}  // namespace gradlibra
