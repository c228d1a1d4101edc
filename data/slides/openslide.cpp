// SPDX-License-Identifier: MIT
// Slides of scanners through OpenSlide.
#include <fmt/format.h>

#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "data/slides/slide_readers.h"

#ifdef GRADLIBRA_HAVE_OPENSLIDE
#include <openslide.h>
#endif

namespace gradlibra {

namespace fs = std::filesystem;

#ifdef GRADLIBRA_HAVE_OPENSLIDE
namespace {

struct Closer {
  void operator()(openslide_t* slide) const noexcept { openslide_close(slide); }
};
using Handle = std::unique_ptr<openslide_t, Closer>;

class ScannerSlide : public Slide {
 public:
  ScannerSlide(const fs::path& file, Handle slide, int width, int height)
      : Slide(width, height), name_(file.string()), slide_(std::move(slide)) {
    if (const char* colour = openslide_get_property_value(slide_.get(), OPENSLIDE_PROPERTY_NAME_BACKGROUND_COLOR))
      background_ = static_cast<uint32_t>(std::strtoul(colour, nullptr, 16));
  }

  // An error is latched: from then on the library gives cleared pixels, which must not become patches.
  void read(int x, int y, Image& out) override {
    pixels_.resize(static_cast<size_t>(out.width) * out.height);
    openslide_read_region(slide_.get(), pixels_.data(), x, y, 0, out.width, out.height);
    if (const char* error = openslide_get_error(slide_.get()))
      throw std::runtime_error(fmt::format("{}: region {}, {} of {} x {} cannot be read ({}): truncated or corrupt",
                                           name_, x, y, out.width, out.height, error));
    // Colours come multiplied by their opacity; the background shows through what is left.
    for (size_t i = 0; i < pixels_.size(); ++i) {
      const uint32_t pixel = pixels_[i], clear = 255 - (pixel >> 24);
      for (int c = 0; c < 3; ++c) {
        const int shift = 16 - 8 * c;
        const uint32_t behind = (background_ >> shift & 255) * clear;
        out.pixels[3 * i + static_cast<size_t>(c)] =
            static_cast<uint8_t>((pixel >> shift & 255) + (behind + 127) / 255);
      }
    }
  }

  [[nodiscard]] int64_t memory(int rows) const override {
    constexpr int64_t kLibrary = 64LL << 20;  // its cache of tiles, and what it decodes at a time
    return kLibrary + static_cast<int64_t>(rows) * rows * 4;
  }

 private:
  std::string name_;
  Handle slide_;
  uint32_t background_ = 0xffffff;
  std::vector<uint32_t> pixels_;
};

}  // namespace

std::string openslide_vendor(const fs::path& file) {
  const char* vendor = openslide_detect_vendor(file.c_str());
  if (vendor == nullptr || std::string(vendor) == "generic-tiff") return "";
  return vendor;
}

std::unique_ptr<Slide> open_openslide(const fs::path& file) {
  Handle slide(openslide_open(file.c_str()));
  const char* error = slide ? openslide_get_error(slide.get()) : "OpenSlide does not open it";
  if (error) throw std::runtime_error(fmt::format("{}: {}", file.string(), error));
  int64_t width = 0, height = 0;
  openslide_get_level0_dimensions(slide.get(), &width, &height);
  if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX)
    throw std::runtime_error(fmt::format("{}: has no usable size ({} x {})", file.string(), width, height));
  return std::make_unique<ScannerSlide>(file, std::move(slide), static_cast<int>(width), static_cast<int>(height));
}
#else
std::string openslide_vendor(const fs::path&) { return ""; }
std::unique_ptr<Slide> open_openslide(const fs::path&) { return nullptr; }
#endif

}  // namespace gradlibra
