// SPDX-License-Identifier: MIT
// Slides on disk for the tests: TIFF files as tiles or strips, and pictures with cells at known places.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tests/data/data_files.h"

namespace gradlibra {

struct TiffLayout {
  int tile_width = 0, tile_height = 0;  // 0: strips
  int strip_rows = 0;                   // 0: one strip for all
  bool big = false;                     // BigTIFF
  bool wide = false;                    // 16 bits a sample, 257 times the value
  int alpha = -1;                       // a fourth sample of this value, by which colours are not multiplied; -1: none
  bool cmyk = false;  // the fourth sample is black, and the others are the inks of 255 minus the value
};

// An uncompressed TIFF, little endian: RGB, with alpha, or CMYK.
inline std::string tiff_bytes(const Image& image, const TiffLayout& layout) {
  const bool tiled = layout.tile_width > 0;
  const int part_width = tiled ? layout.tile_width : image.width;
  const int part_height = tiled ? layout.tile_height : layout.strip_rows > 0 ? layout.strip_rows : image.height;
  const uint64_t samples = layout.alpha >= 0 || layout.cmyk ? 4 : 3;
  std::vector<std::string> parts;
  for (int y = 0; y < image.height; y += part_height) {
    for (int x = 0; x < image.width; x += part_width) {
      std::string part;
      const int rows = tiled ? part_height : std::min(part_height, image.height - y);
      for (int j = 0; j < rows; ++j)
        for (int i = 0; i < part_width; ++i)
          for (uint64_t c = 0; c < samples; ++c) {
            const bool inside = x + i < image.width && y + j < image.height;
            const int value = c == 3 ? std::max(layout.alpha, 0) : inside ? image.at(x + i, y + j)[c] : 0x55;
            part.append(layout.wide ? 2 : 1, static_cast<char>(layout.cmyk && c < 3 ? 255 - value : value));
          }
      parts.push_back(std::move(part));
    }
  }
  const auto number = [](uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 255);
    return out;
  };
  const int word = layout.big ? 8 : 4;  // of offsets and counts
  std::string bytes = layout.big ? "II+" + std::string("\0\x08\0\0\0", 5) : std::string("II*\0", 4);
  const size_t directory_at = bytes.size();
  bytes += number(0, word);
  std::vector<uint64_t> offsets, counts;
  for (const std::string& part : parts) {
    offsets.push_back(bytes.size());
    counts.push_back(part.size());
    bytes += part;
  }
  struct Entry {
    int tag, type;  // 3: 16 bits, 4: 32 bits
    std::vector<uint64_t> values;
  };
  const auto w = static_cast<uint64_t>(image.width), h = static_cast<uint64_t>(image.height);
  const uint64_t bits = layout.wide ? 16 : 8;
  std::vector<Entry> entries{{256, 4, {w}},
                             {257, 4, {h}},
                             {258, 3, std::vector<uint64_t>(samples, bits)},
                             {259, 3, {1}},
                             {262, 3, {layout.cmyk ? 5U : 2U}}};
  if (!tiled) entries.push_back({273, 4, offsets});
  entries.push_back({277, 3, {samples}});
  if (!tiled) entries.push_back({278, 4, {static_cast<uint64_t>(part_height)}});
  if (!tiled) entries.push_back({279, 4, counts});
  entries.push_back({284, 3, {1}});
  if (tiled) {
    entries.push_back({322, 4, {static_cast<uint64_t>(part_width)}});
    entries.push_back({323, 4, {static_cast<uint64_t>(part_height)}});
    entries.push_back({324, 4, offsets});
    entries.push_back({325, 4, counts});
  }
  if (layout.alpha >= 0) entries.push_back({338, 3, {2}});
  std::string directory = number(entries.size(), layout.big ? 8 : 2);
  for (const Entry& entry : entries) {
    std::string values;
    for (const uint64_t value : entry.values) values += number(value, entry.type == 3 ? 2 : 4);
    directory += number(static_cast<uint64_t>(entry.tag), 2) + number(static_cast<uint64_t>(entry.type), 2) +
                 number(entry.values.size(), word);
    if (values.size() > static_cast<size_t>(word)) {
      directory += number(bytes.size(), word);
      bytes += values;
    } else {
      values.resize(static_cast<size_t>(word));
      directory += values;
    }
  }
  bytes.replace(directory_at, static_cast<size_t>(word), number(bytes.size(), word));
  return bytes + directory + number(0, word);
}

// A cell is a filled rectangle in the colour of its class.
struct Cell {
  std::string name;
  int x1, y1, x2, y2;
};
inline Image smear(int width, int height, const std::vector<Cell>& cells) {
  Image image = gradient_image(width, height);
  for (const Cell& cell : cells)
    for (int y = cell.y1; y < cell.y2; ++y)
      for (int x = cell.x1; x < cell.x2; ++x) {
        uint8_t* pixel = image.at(x, y);
        pixel[0] = cell.name == "disc" ? 255 : 0;
        pixel[1] = cell.name == "square" ? 255 : 0;
        pixel[2] = 255;
      }
  return image;
}

inline std::string csv_lines(const std::string& slide, const std::vector<Cell>& cells) {
  std::ostringstream out;
  for (const Cell& c : cells)
    out << slide << "," << c.name << "," << c.x1 << "," << c.y1 << "," << c.x2 << "," << c.y2 << "\n";
  return out.str();
}
inline const char* const kCsvHead = "image,class,xmin,ymin,xmax,ymax\n";

}  // namespace gradlibra
