// SPDX-License-Identifier: MIT
// TIFF and BigTIFF through libtiff: tiles as they are wanted, else strip by strip or row by row.
#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "data/slides/slide_readers.h"

#ifdef GRADLIBRA_HAVE_TIFF
#include "data/images/tiff_options.h"
#endif

namespace gradlibra {

namespace fs = std::filesystem;

#ifdef GRADLIBRA_HAVE_TIFF
namespace {

// The first page of an open file.
class Page {
 public:
  enum class Access { read, map };
  Page(const fs::path& file, int64_t memory_bytes, Access access = Access::read) : name_(file.string()) {
    const auto options = tiff_options(memory_bytes, said_);
    // "m": not mapped into memory, where a file that shrinks would end the program.
    tiff_.reset(TIFFOpenExt(file.c_str(), access == Access::map ? "r" : "rm", options.get()));
    if (!tiff_) fail("");
    uint32_t columns = 0, rows = 0;
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGEWIDTH, &columns);
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGELENGTH, &rows);
    if (columns < 1 || rows < 1 || columns > INT32_MAX || rows > INT32_MAX)
      throw std::runtime_error(fmt::format("{}: has no usable size ({} x {})", name_, columns, rows));
    width = static_cast<int>(columns);
    height = static_cast<int>(rows);
    // Pixels as stored, whatever the tag says.
    TIFFSetField(tiff_.get(), TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
    ignore_alpha(tiff_.get());
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  [[nodiscard]] TIFF* get() const { return tiff_.get(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  template <class T>
  [[nodiscard]] T field(uint32_t tag, T otherwise) const {
    T value = otherwise;
    return TIFFGetFieldDefaulted(tiff_.get(), tag, &value) != 0 ? value : otherwise;
  }
  [[noreturn]] void fail(const std::string& where) {
    throw std::runtime_error(
        fmt::format("{}: cannot be decoded{} ({}): truncated, corrupt or of a kind that libtiff "
                    "lacks",
                    name_, where, said_.empty() ? "libtiff says no more" : said_));
  }
  // Whether libtiff can make RGB of it.
  void check_colours() {
    char why[1024] = "";
    if (!TIFFRGBAImageOK(tiff_.get(), why))
      throw std::runtime_error(fmt::format("{}: cannot be decoded ({})", name_, why));
  }

  int width = 0, height = 0;

 private:
  std::string name_, said_;
  TiffHandle tiff_;
};

void to_rgb(const uint32_t* from, size_t count, uint8_t* to) {
  for (size_t i = 0; i < count; ++i, to += 3) {
    to[0] = static_cast<uint8_t>(TIFFGetR(from[i]));
    to[1] = static_cast<uint8_t>(TIFFGetG(from[i]));
    to[2] = static_cast<uint8_t>(TIFFGetB(from[i]));
  }
}

// Samples that need no conversion but a copy: 8 bits of grey or RGB side by side, further samples passed over.
struct PlainSamples {
  int count = 0;  // per pixel; 0: not of this kind
  bool inverted = false;

  // Has the library turn the colours of JPEG into RGB.
  static PlainSamples of(const Page& page) {
    const auto samples = page.field<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
    const auto photometric = page.field<uint16_t>(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    if (page.field<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1) != 8 ||
        page.field<uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) != PLANARCONFIG_CONTIG)
      return {};
    const bool jpeg_colours = photometric == PHOTOMETRIC_YCBCR && samples == 3 &&
                              page.field<uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_JPEG;
    const bool grey = photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE;
    if ((!grey || samples > 2) && (photometric != PHOTOMETRIC_RGB || samples < 3) && !jpeg_colours) return {};
    if (jpeg_colours) TIFFSetField(page.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    return {samples, photometric == PHOTOMETRIC_MINISWHITE};
  }

  void to_rgb(const uint8_t* from, size_t pixels, uint8_t* to) const {
    const size_t second = count >= 3 ? 1 : 0, third = count >= 3 ? 2 : 0;
    const uint8_t flip = inverted ? 255 : 0;
    for (size_t i = 0; i < pixels; ++i, from += count, to += 3) {
      to[0] = from[0] ^ flip;
      to[1] = from[second] ^ flip;
      to[2] = from[third] ^ flip;
    }
  }
};

// The tiles read last are kept: a patch shares most of its tiles with its neighbours.
class TiledSlide : public Slide {
 public:
  explicit TiledSlide(std::unique_ptr<Page> page)
      : Slide(page->width, page->height),
        page_(std::move(page)),
        tile_width_(static_cast<int>(page_->field<uint32_t>(TIFFTAG_TILEWIDTH, 0))),
        tile_height_(static_cast<int>(page_->field<uint32_t>(TIFFTAG_TILELENGTH, 0))),
        plain_(PlainSamples::of(*page_)) {
    if (plain_.count == 0) page_->check_colours();
    constexpr int kLargest = 1 << 14;
    if (tile_width_ < 1 || tile_height_ < 1 || tile_width_ > kLargest || tile_height_ > kLargest)
      throw std::runtime_error(
          fmt::format("{}: has tiles of {} x {} pixels", page_->name(), tile_width_, tile_height_));
    if (plain_.count > 0 && TIFFTileSize(page_->get()) != tile_bytes() / 3 * plain_.count)
      throw std::runtime_error(fmt::format("{}: has tiles of no usable size", page_->name()));
  }

  void read(int x, int y, Image& out) override {
    kept_ = std::max(kept_, tiles_of(out.width, out.height));
    for (int ty = y / tile_height_; ty * tile_height_ < y + out.height; ++ty) {
      for (int tx = x / tile_width_; tx * tile_width_ < x + out.width; ++tx) {
        const std::vector<uint8_t>& pixels = tile(tx, ty);
        const int left = std::max(x, tx * tile_width_), right = std::min(x + out.width, (tx + 1) * tile_width_);
        const int top = std::max(y, ty * tile_height_), bottom = std::min(y + out.height, (ty + 1) * tile_height_);
        for (int row = top; row < bottom; ++row) {
          const size_t from = static_cast<size_t>(row - ty * tile_height_) * tile_width_ + left - tx * tile_width_;
          std::copy_n(pixels.data() + from * 3, static_cast<size_t>(right - left) * 3, out.at(left - x, row - y));
        }
      }
    }
  }

  [[nodiscard]] int64_t memory(int rows) const override {
    return (static_cast<int64_t>(tiles_of(rows, rows)) + 1) * tile_bytes() + tile_bytes() * 2;
  }

 private:
  [[nodiscard]] int64_t tile_bytes() const { return static_cast<int64_t>(tile_width_) * tile_height_ * 3; }
  // Kept for regions of this size: all that a row of them touches, up to so many bytes, and what one touches at least.
  [[nodiscard]] int tiles_of(int region_width, int region_height) const {
    constexpr int64_t kMostBytes = 192LL << 20;
    const int64_t down = region_height / tile_height_ + 2, across = region_width / tile_width_ + 2;
    const int64_t all_across = width() / tile_width_ + 1;
    return static_cast<int>(
        std::max(down * across, std::min(down * all_across, kMostBytes / std::max<int64_t>(tile_bytes(), 1))));
  }

  const std::vector<uint8_t>& tile(int tx, int ty) {
    const std::pair<int, int> place(ty, tx);
    if (const auto found = tiles_.find(place); found != tiles_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    if (static_cast<int>(tiles_.size()) >= kept_) {
      tiles_.erase(order_.back().first);
      order_.pop_back();
    }
    std::vector<uint8_t> pixels(static_cast<size_t>(tile_bytes()));
    decode(tx * tile_width_, ty * tile_height_, pixels);
    order_.emplace_front(place, std::move(pixels));
    tiles_[place] = order_.begin();
    return order_.front().second;
  }

  void decode(int x, int y, std::vector<uint8_t>& pixels) {
    const auto left = static_cast<uint32_t>(x), top = static_cast<uint32_t>(y);
    const auto fail = [&] { page_->fail(fmt::format(" in the tile at {}, {}", x, y)); };
    if (plain_.count > 0) {
      samples_.resize(static_cast<size_t>(TIFFTileSize(page_->get())));
      const uint32_t tile = TIFFComputeTile(page_->get(), left, top, 0, 0);
      const auto size = static_cast<tmsize_t>(samples_.size());
      if (TIFFReadEncodedTile(page_->get(), tile, samples_.data(), size) != size) fail();
      plain_.to_rgb(samples_.data(), pixels.size() / 3, pixels.data());
      return;
    }
    raster_.resize(pixels.size() / 3);
    if (!TIFFReadRGBATileExt(page_->get(), left, top, raster_.data(), /*stop_on_error=*/1)) fail();
    // The library's rows go from the bottom up.
    const auto columns = static_cast<size_t>(tile_width_);
    for (size_t row = 0; row < static_cast<size_t>(tile_height_); ++row)
      to_rgb(raster_.data() + (static_cast<size_t>(tile_height_) - 1 - row) * columns, columns,
             pixels.data() + row * columns * 3);
  }

  std::unique_ptr<Page> page_;
  int tile_width_, tile_height_;
  PlainSamples plain_;
  int kept_ = 1;
  using Tiles = std::list<std::pair<std::pair<int, int>, std::vector<uint8_t>>>;
  Tiles order_;  // the one read last in front
  std::map<std::pair<int, int>, Tiles::iterator> tiles_;
  std::vector<uint8_t> samples_;
  std::vector<uint32_t> raster_;
};

// A strip at a time, by the library's conversion of whatever it holds to RGB.
class StripRows : public RowDecoder {
 public:
  StripRows(std::unique_ptr<Page> page, int strip_rows) : page_(std::move(page)), strip_rows_(strip_rows) {
    page_->check_colours();
    width = page_->width;
    height = page_->height;
    bytes = static_cast<int64_t>(strip_rows) * width * 8;  // what it makes, and about as much to make it from
  }
  void next_row(uint8_t* rgb) override {
    const int first = row_ - row_ % strip_rows_, rows = std::min(strip_rows_, height - first);
    if (row_ == first) {
      raster_.resize(static_cast<size_t>(rows) * width);
      if (!TIFFReadRGBAStripExt(page_->get(), static_cast<uint32_t>(first), raster_.data(), /*stop_on_error=*/1))
        page_->fail(fmt::format(" in the strip from row {} on", first));
    }
    to_rgb(raster_.data() + static_cast<size_t>(rows - 1 - (row_ - first)) * width, static_cast<size_t>(width), rgb);
    ++row_;
  }

 private:
  std::unique_ptr<Page> page_;
  int strip_rows_;
  int row_ = 0;
  std::vector<uint32_t> raster_;
};

// Row by row, for strips that are too large.
class ScanRows : public RowDecoder {
 public:
  ScanRows(std::unique_ptr<Page> page, PlainSamples plain) : page_(std::move(page)), plain_(plain) {
    width = page_->width;
    height = page_->height;
    const auto line_bytes = static_cast<int64_t>(TIFFScanlineSize(page_->get()));
    if (line_bytes != static_cast<int64_t>(width) * plain_.count)
      throw std::runtime_error(fmt::format("{}: has rows of no usable size", page_->name()));
    // The library reads a compressed strip whole.
    bytes =
        line_bytes + static_cast<int64_t>(std::min<uint64_t>(TIFFGetStrileByteCount(page_->get(), 0), INT64_MAX / 2));
  }
  void next_row(uint8_t* rgb) override {
    line_.resize(static_cast<size_t>(width) * plain_.count);
    if (TIFFReadScanline(page_->get(), line_.data(), static_cast<uint32_t>(row_)) != 1)
      page_->fail(fmt::format(" from row {} on", row_));
    plain_.to_rgb(line_.data(), static_cast<size_t>(width), rgb);
    ++row_;
  }

 private:
  std::unique_ptr<Page> page_;
  PlainSamples plain_;
  int row_ = 0;
  std::vector<uint8_t> line_;
};

std::unique_ptr<RowDecoder> open_tiff_rows(const fs::path& file, int64_t memory_bytes) {
  auto page = std::make_unique<Page>(file, memory_bytes);
  const auto stated = static_cast<int64_t>(page->field<uint32_t>(TIFFTAG_ROWSPERSTRIP, UINT32_MAX));
  const int64_t strip_rows = std::clamp<int64_t>(stated, 1, page->height);
  constexpr int64_t kLargeStrip = 64LL << 20;  // pixels' bytes
  if (strip_rows * page->width * 4 > kLargeStrip) {
    if (const PlainSamples plain = PlainSamples::of(*page); plain.count > 0)
      return std::make_unique<ScanRows>(std::move(page), plain);
  }
  return std::make_unique<StripRows>(std::move(page), static_cast<int>(strip_rows));
}

}  // namespace

std::unique_ptr<Slide> open_tiff_slide(const fs::path& file, int64_t memory_bytes) {
  auto page = std::make_unique<Page>(file, memory_bytes);
  if (TIFFIsTiled(page->get())) {
    // libtiff 4.5 converts uncompressed tiles of some sizes only where they are mapped.
    if (PlainSamples::of(*page).count == 0 &&
        page->field<uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_NONE)
      page = std::make_unique<Page>(file, memory_bytes, Page::Access::map);
    return std::make_unique<TiledSlide>(std::move(page));
  }
  page.reset();
  const auto open = [file, memory_bytes] { return open_tiff_rows(file, memory_bytes); };
  return std::make_unique<RowSlide>(open(), open);
}
#else
std::unique_ptr<Slide> open_tiff_slide(const fs::path&, int64_t) { return nullptr; }
#endif

}  // namespace gradlibra
