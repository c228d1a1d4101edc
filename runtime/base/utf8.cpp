// SPDX-License-Identifier: MIT
#include "runtime/base/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace gradlibra {
namespace {

// Bytes of the well-formed sequence that begins at `at`; 0 if there is none.
size_t sequence_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  const auto tail = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const uint8_t first = byte(at);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(at + 1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const uint8_t low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return tail(at + 1, low, high) && tail(at + 2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const uint8_t low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    return tail(at + 1, low, high) && tail(at + 2) && tail(at + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = sequence_at(text, at);
    if (bytes == 0) return at;
    at += bytes;
  }
  return std::string_view::npos;
}

std::string escaped(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = sequence_at(text, at);
    const auto code = static_cast<uint8_t>(text[at]);
    if (bytes == 0 || code < 0x20 || code == 0x7f) {
      result += fmt::format("\\x{:02x}", code);
      ++at;
    } else {
      result += text.substr(at, bytes);
      at += bytes;
    }
  }
  return result;
}

std::string printable(std::string_view text) {
  std::string lines;
  for (size_t begin = 0;;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines += escaped(text.substr(begin, end - begin));
    if (end == text.size()) return lines;
    lines += '\n';
    begin = end + 1;
  }
}

std::string encoding_problem(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) return "is UTF-16 text: save the file as UTF-8";
  const size_t at = find_invalid_utf8(text);
  if (at == std::string_view::npos) {
    // UTF-16 without its mark: every other byte of plain English is 0.
    const auto zeros =
        std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(64, text.size())), '\0');
    return zeros >= 8 ? "is UTF-16 text without a byte order mark: save the file as UTF-8" : "";
  }
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  size_t begin = text.rfind('\n', at);
  begin = begin == std::string_view::npos ? 0 : begin + 1;
  begin = std::max(begin, at < 20 ? size_t{0} : at - 20);
  while (begin < at && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) ++begin;
  const size_t end = std::min(text.find('\n', at), std::min(text.size(), at + 10));
  return fmt::format("line {}: is not UTF-8: '{}' holds the byte \\x{:02x} (Latin-1?): save the file as UTF-8", line,
                     escaped(text.substr(begin, end - begin)), static_cast<uint8_t>(text[at]));
}

}  // namespace gradlibra
