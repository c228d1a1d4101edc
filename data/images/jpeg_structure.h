// SPDX-License-Identifier: MIT
// What a JPEG file says outside its pixels: where its data ends (a decoder fills a truncated file with grey in
// silence), how the camera was held, and whether its tables can be given to a decoder.
#pragma once

#include <span>

namespace gradlibra {

struct JpegStructure {
  bool complete = false;  // the end-of-image marker (of a header: the frame header with the image's size) was reached
  // False: a Huffman table states more codes than bytes exist, which stb_image 2.27 would write past its table.
  bool sound = true;
  int exif_orientation = 1;  // tag 0x0112 of the first EXIF directory, 1..8; 1 if there is none or it is not valid
  int bits = 8;              // per sample, by the frame header
  int components = 3;        // 1 grey, 3 colour, 4 CMYK or YCCK
};

// Walks the marker segments of ITU-T T.81, Annex B, through entropy-coded data too (so an end-of-image marker of an
// embedded thumbnail does not count). Never reads outside `bytes`, whatever they are; bytes behind the end of the
// image are allowed. With `header_only` it stops behind the frame header.
[[nodiscard]] JpegStructure jpeg_structure(std::span<const unsigned char> bytes, bool header_only = false);

}  // namespace gradlibra
