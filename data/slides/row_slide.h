// SPDX-License-Identifier: MIT
// Slides whose format has no way in but its beginning: rows come one after the other, and the last few are kept.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "data/slides/slide.h"

namespace gradlibra {

// Decodes a picture from its first row to its last.
class RowDecoder {
 public:
  RowDecoder() = default;
  virtual ~RowDecoder() = default;
  RowDecoder(const RowDecoder&) = delete;
  RowDecoder& operator=(const RowDecoder&) = delete;
  // The next row as RGB; std::runtime_error if it cannot be decoded. Not called behind the last row.
  virtual void next_row(uint8_t* rgb) = 0;
  int width = 0, height = 0;
  int64_t bytes = 0;  // held while decoding
};

class RowSlide : public Slide {
 public:
  using Open = std::function<std::unique_ptr<RowDecoder>()>;
  // `open` begins anew, for a region above what is kept.
  RowSlide(std::unique_ptr<RowDecoder> decoder, Open open);
  void read(int x, int y, Image& out) override;
  [[nodiscard]] int64_t memory(int rows) const override;

 private:
  [[nodiscard]] uint8_t* row(int y) { return ring_.data() + static_cast<size_t>(y % kept_) * width() * 3; }
  void keep(int rows);

  std::unique_ptr<RowDecoder> decoder_;
  Open open_;
  int64_t decoder_bytes_;
  std::vector<uint8_t> ring_;  // row y lies at y modulo kept_
  int kept_ = 0;
  int next_ = 0;  // of the decoder; rows next_ - kept_ .. next_ - 1 are in the ring
};

}  // namespace gradlibra
