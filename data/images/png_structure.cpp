// SPDX-License-Identifier: MIT
#include "data/images/png_structure.h"

#include <array>
#include <cstdint>
#include <string_view>

#include "data/images/exif.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

using Bytes = std::span<const unsigned char>;

// CRC-32 of ISO 3309 eight bytes at a time: a table for each distance from the end of the eight.
constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    tables[0][n] = c;
  }
  for (size_t t = 1; t < 8; ++t)
    for (uint32_t n = 0; n < 256; ++n) tables[t][n] = (tables[t - 1][n] >> 8) ^ tables[0][tables[t - 1][n] & 255];
  return tables;
}();

uint32_t crc32(Bytes bytes) {
  uint32_t c = 0xffffffffu;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    const unsigned char* p = bytes.data() + i;
    c ^= static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
         static_cast<uint32_t>(p[3]) << 24;
    c = kCrcTables[7][c & 255] ^ kCrcTables[6][c >> 8 & 255] ^ kCrcTables[5][c >> 16 & 255] ^ kCrcTables[4][c >> 24] ^
        kCrcTables[3][p[4]] ^ kCrcTables[2][p[5]] ^ kCrcTables[1][p[6]] ^ kCrcTables[0][p[7]];
  }
  for (; i < bytes.size(); ++i) c = kCrcTables[0][(c ^ bytes[i]) & 255] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

uint32_t u32(Bytes bytes, size_t at) {
  return static_cast<uint32_t>(bytes[at]) << 24 | static_cast<uint32_t>(bytes[at + 1]) << 16 |
         static_cast<uint32_t>(bytes[at + 2]) << 8 | bytes[at + 3];
}

}  // namespace

PngStructure png_structure(Bytes bytes, bool header_only) {
  constexpr size_t kSignature = 8, kAround = 12;  // length, type and check sum around a chunk's data
  PngStructure result;
  size_t at = kSignature;
  while (at + kAround <= bytes.size()) {
    const uint32_t length = u32(bytes, at);
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
    if (length > bytes.size() - at - kAround) break;
    const Bytes data = bytes.subspan(at + 8, length);
    if (!header_only && crc32(bytes.subspan(at + 4, length + 4)) != u32(bytes, at + 8 + length)) {
      result.problem = "is corrupt: its chunk '" + escaped(type) + "' at byte " + std::to_string(at) +
                       " has another check sum than it states";
      return result;
    }
    if (type == "IHDR" && length >= 9) result.bits = data[8];
    if (type == "eXIf") {
      if (const int orientation = gradlibra::exif_orientation(data); orientation != 0)
        result.exif_orientation = orientation;
    }
    if (type == "acTL" && length >= 4) result.frames = static_cast<int>(u32(data, 0) & 0x7fffffff);
    if (type == "IEND") return result;
    at += kAround + length;
  }
  if (!header_only) result.problem = "is truncated: no IEND chunk in its " + std::to_string(bytes.size()) + " bytes";
  return result;
}

}  // namespace gradlibra
