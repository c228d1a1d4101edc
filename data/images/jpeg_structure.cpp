// SPDX-License-Identifier: MIT
// A walk through the marker segments of a JPEG file.
#include "data/images/jpeg_structure.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "data/images/exif.h"

namespace gradlibra {
namespace {

using Bytes = std::span<const unsigned char>;

constexpr int kStartOfImage = 0xd8, kEndOfImage = 0xd9, kApp1 = 0xe1, kHuffmanTables = 0xc4;
constexpr int kTemporary = 0x01, kRestart0 = 0xd0, kRestart7 = 0xd7;

// 0 if the segment holds no orientation.
int orientation_of(Bytes segment) {
  static constexpr unsigned char kSignature[6] = {'E', 'x', 'i', 'f', 0, 0};
  if (segment.size() < sizeof kSignature || std::memcmp(segment.data(), kSignature, sizeof kSignature) != 0) return 0;
  return exif_orientation(segment.subspan(sizeof kSignature));
}

// SOF0 to SOF15; three codes of that range mean something else.
bool is_frame_header(int code) {
  return code >= 0xc0 && code <= 0xcf && code != kHuffmanTables && code != 0xc8 && code != 0xcc;
}

// A segment of Huffman tables: each is a byte for its number, sixteen counts of codes by length, and as many symbols,
// at most one per byte value.
bool huffman_tables_sound(Bytes segment) {
  constexpr size_t kCounts = 16, kMaxSymbols = 256;
  while (!segment.empty()) {
    if (segment.size() < 1 + kCounts) return false;
    size_t symbols = 0;
    for (size_t i = 1; i <= kCounts; ++i) symbols += segment[i];
    if (symbols > kMaxSymbols || segment.size() < 1 + kCounts + symbols) return false;
    segment = segment.subspan(1 + kCounts + symbols);
  }
  return true;
}

// The first marker at or behind `at`: 0xff followed by neither a stuffed 0 nor fill bytes; restart markers are part
// of the scan. Returns the position behind the marker and its code, or the end of the bytes and -1.
struct Marker {
  int code;
  size_t end;
};
Marker next_marker(Bytes bytes, size_t at) {
  while (at + 1 < bytes.size()) {
    const void* found = std::memchr(bytes.data() + at, 0xff, bytes.size() - 1 - at);
    if (!found) break;
    at = static_cast<size_t>(static_cast<const unsigned char*>(found) - bytes.data());
    const int code = bytes[at + 1];
    if (code == 0xff) {  // fill byte
      ++at;
    } else if (code == 0 || code == kTemporary || (code >= kRestart0 && code <= kRestart7)) {
      at += 2;
    } else {
      return {code, at + 2};
    }
  }
  return {-1, bytes.size()};
}

}  // namespace

JpegStructure jpeg_structure(Bytes bytes, bool header_only) {
  JpegStructure result;
  bool oriented = false;
  size_t at = 0;
  if (bytes.size() < 2 || bytes[0] != 0xff || bytes[1] != kStartOfImage) return result;
  at = 2;
  while (true) {
    const Marker marker = next_marker(bytes, at);
    if (marker.code < 0) return result;
    if (marker.code == kEndOfImage) {
      result.complete = true;
      return result;
    }
    at = marker.end;
    if (marker.code == kStartOfImage) continue;
    if (bytes.size() - at < 2) return result;
    const size_t length = static_cast<size_t>(bytes[at]) << 8 | bytes[at + 1];  // includes its own two bytes
    if (length < 2 || bytes.size() - at < length) return result;
    if (marker.code == kHuffmanTables && !huffman_tables_sound(bytes.subspan(at + 2, length - 2))) {
      result.sound = false;
      return result;
    }
    if (marker.code == kApp1 && !oriented) {
      const int orientation = orientation_of(bytes.subspan(at + 2, length - 2));
      oriented = orientation != 0;
      if (oriented) result.exif_orientation = orientation;
    }
    if (is_frame_header(marker.code) && length >= 8) {
      result.bits = bytes[at + 2];
      result.components = bytes[at + 7];
    }
    if (header_only && is_frame_header(marker.code)) {
      result.complete = true;
      return result;
    }
    at += length;  // behind a scan header follows entropy-coded data, which next_marker() skips
  }
}

}  // namespace gradlibra
