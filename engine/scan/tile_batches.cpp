// SPDX-License-Identifier: MIT
#include "engine/scan/tile_batches.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/loading/pictures.h"

namespace gradlibra {
namespace {

bool is_empty(const Image& image, int range) {
  std::array<int, 3> low{255, 255, 255}, high{0, 0, 0};
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* pixel = image.at(0, y);
    for (int x = 0; x < image.width; ++x, pixel += 3) {
      for (size_t c = 0; c < 3; ++c) {
        low[c] = std::min<int>(low[c], pixel[c]);
        high[c] = std::max<int>(high[c], pixel[c]);
      }
    }
    // Most tiles are told by their first rows.
    for (size_t c = 0; c < 3; ++c)
      if (high[c] - low[c] > range) return false;
  }
  return true;
}

constexpr uint8_t kBlack = 0, kWhite = 255;

Image plain_image(int width, int height, uint8_t grey) {
  return {width, height, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3, grey)};
}

// At the upper left of a white picture.
Image padded(Image region, int width, int height) {
  if (region.width == width && region.height == height) return region;
  Image image = plain_image(width, height, kWhite);
  for (int y = 0; y < region.height; ++y)
    std::copy_n(region.at(0, y), static_cast<size_t>(region.width) * 3, image.at(0, y));
  return image;
}

}  // namespace

TileBatches::TileBatches(Slide& slide, const std::vector<Tile>& tiles, const LoaderConfig& loader,
                         const Options& options, size_t first)
    : slide_(slide), tiles_(tiles), loader_(loader), options_(options), at_(first) {
  if (at_ < tiles_.size()) coming_ = std::async(std::launch::async, [this] { return read({}); });
}

TileBatches::~TileBatches() {
  if (coming_.valid()) coming_.wait();
}

bool TileBatches::next(TileBatch& out) {
  if (!coming_.valid()) return false;
  TileBatch spare = std::exchange(out, coming_.get());
  if (out.next < tiles_.size())
    coming_ =
        std::async(std::launch::async, [this, spare = std::move(spare)]() mutable { return read(std::move(spare)); });
  return true;
}

TileBatch TileBatches::read(TileBatch out) {
  const auto size = static_cast<size_t>(loader_.batch_size);
  shape_batch(out.batch, loader_.batch_size, loader_.height, loader_.width, /*max_boxes=*/1);
  out.tiles.clear();
  out.empty = 0;
  for (; at_ < tiles_.size() && out.tiles.size() < size; ++at_) {
    const Tile& tile = tiles_[at_];
    Image region = plain_image(std::min(options_.width, slide_.width() - tile.x),
                               std::min(options_.height, slide_.height() - tile.y), kBlack);
    try {
      slide_.read(tile.x, tile.y, region);
    } catch (const std::runtime_error& error) {
      throw SlideError(error.what());
    }
    if (is_empty(region, options_.empty_range)) {
      ++out.empty;
      continue;
    }
    put_picture(out.batch, static_cast<int64_t>(out.tiles.size()),
                as_input(loader_, padded(std::move(region), options_.width, options_.height)));
    out.tiles.push_back(at_);
  }
  for (size_t i = out.tiles.size(); i < size; ++i)
    put_picture(out.batch, static_cast<int64_t>(i), {plain_image(loader_.width, loader_.height, kBlack)});
  out.next = at_;
  return out;
}

}  // namespace gradlibra
