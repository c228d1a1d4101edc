// SPDX-License-Identifier: MIT
#include "data/images/exif.h"

#include <cstddef>
#include <cstdint>

namespace gradlibra {
namespace {

using Bytes = std::span<const unsigned char>;

// Integers of a TIFF block in the byte order that its first two bytes state. Reads outside the block give 0.
class Tiff {
 public:
  explicit Tiff(Bytes block) : block_(block), big_endian_(block.size() >= 2 && block[0] == 'M') {}

  [[nodiscard]] uint32_t u16(size_t at) const { return integer(at, 2); }
  [[nodiscard]] uint32_t u32(size_t at) const { return integer(at, 4); }
  [[nodiscard]] bool valid() const {
    if (block_.size() < 8) return false;
    const bool order = (block_[0] == 'I' && block_[1] == 'I') || (block_[0] == 'M' && block_[1] == 'M');
    return order && u16(2) == 42;
  }
  [[nodiscard]] size_t size() const { return block_.size(); }

 private:
  [[nodiscard]] uint32_t integer(size_t at, size_t count) const {
    if (at > block_.size() || block_.size() - at < count) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t place = big_endian_ ? i : count - 1 - i;
      value = (value << 8) | block_[at + place];
    }
    return value;
  }
  Bytes block_;
  bool big_endian_;
};

}  // namespace

int exif_orientation(Bytes block) {
  const Tiff tiff(block);
  if (!tiff.valid()) return 0;
  const size_t directory = tiff.u32(4);
  const uint32_t entries = tiff.u16(directory);
  constexpr size_t kEntryBytes = 12;
  constexpr uint32_t kOrientationTag = 0x0112, kShort = 3;
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > tiff.size()) return 0;
    if (tiff.u16(entry) != kOrientationTag || tiff.u16(entry + 2) != kShort) continue;
    const uint32_t value = tiff.u16(entry + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 0;
  }
  return 0;
}

}  // namespace gradlibra
