// SPDX-License-Identifier: MIT
#include "data/slides/row_slide.h"

#include <algorithm>

namespace gradlibra {

RowSlide::RowSlide(std::unique_ptr<RowDecoder> decoder, Open open)
    : Slide(decoder->width, decoder->height),
      decoder_(std::move(decoder)),
      open_(std::move(open)),
      decoder_bytes_(decoder_->bytes) {}

// Makes room for regions of `rows` rows. What was there is decoded again, which happens once for a slide.
void RowSlide::keep(int rows) {
  if (rows <= kept_) return;
  ring_ = std::vector<uint8_t>(static_cast<size_t>(rows) * width() * 3);
  kept_ = rows;
  if (next_ > 0) decoder_ = open_();
  next_ = 0;
}

void RowSlide::read(int x, int y, Image& out) {
  keep(out.height);
  if (y < next_ - kept_) {
    decoder_.reset();
    decoder_ = open_();
    next_ = 0;
  }
  for (; next_ < y + out.height; ++next_) decoder_->next_row(row(next_));
  for (int j = 0; j < out.height; ++j) {
    const uint8_t* from = row(y + j) + static_cast<size_t>(x) * 3;
    std::copy_n(from, static_cast<size_t>(out.width) * 3, out.at(0, j));
  }
}

int64_t RowSlide::memory(int rows) const { return decoder_bytes_ + static_cast<int64_t>(rows) * width() * 3; }

}  // namespace gradlibra
