// SPDX-License-Identifier: MIT
// Which reader a slide gets.
#include "data/slides/slide.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>
#include <string_view>

#include "data/images/more_formats.h"
#include "data/slides/slide_readers.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

// Of scanners; what OpenSlide reads.
constexpr std::array<const char*, 8> kScannerExtensions{".svs", ".ndpi", ".mrxs", ".vms",
                                                        ".vmu", ".scn",  ".bif",  ".svslide"};

std::string small_extension(const fs::path& file) {
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return extension;
}

bool is_scanner_name(const fs::path& file) {
  const std::string extension = small_extension(file);
  return std::any_of(kScannerExtensions.begin(), kScannerExtensions.end(),
                     [&](const char* known) { return extension == known; });
}

// A picture decoded whole, when the first region is wanted.
class WholeSlide : public Slide {
 public:
  WholeSlide(fs::path file, const ImageInfo& info, int64_t file_bytes)
      : Slide(info.width, info.height), file_(std::move(file)), file_bytes_(file_bytes) {}

  void read(int x, int y, Image& out) override {
    if (image_.pixels.empty()) image_ = read_image(file_);
    for (int j = 0; j < out.height; ++j)
      std::copy_n(image_.at(x, y + j), static_cast<size_t>(out.width) * 3, out.at(0, j));
  }
  // Twice the pixels, for decoders have a copy of their own.
  [[nodiscard]] int64_t memory(int) const override {
    return file_bytes_ + 2 * static_cast<int64_t>(width()) * height() * 3;
  }

 private:
  fs::path file_;
  int64_t file_bytes_;
  Image image_;
};

std::unique_ptr<Slide> by_rows(std::unique_ptr<RowDecoder> decoder, RowSlide::Open open) {
  if (!decoder) return nullptr;
  return std::make_unique<RowSlide>(std::move(decoder), std::move(open));
}

std::unique_ptr<Slide> open_by_content(const fs::path& file, int64_t memory_bytes) {
  constexpr int64_t kAnySize = INT64_MAX;
  const std::string head = read_file(file, kAnySize, 16);
  const auto starts = [&](std::string_view with) { return head.starts_with(with); };
  using namespace std::string_view_literals;
  if (kHaveOpenslide && !openslide_vendor(file).empty()) return open_openslide(file);
  const bool tiff = starts("II*\0"sv) || starts("MM\0*"sv) || starts("II+\0"sv) || starts("MM\0+"sv);
  if (kHaveTiff && tiff) return open_tiff_slide(file, memory_bytes);
  std::unique_ptr<Slide> slide;
  if (kHaveLibjpeg && starts("\xff\xd8\xff"sv)) {
    const auto open = [file, memory_bytes] { return open_jpeg_rows(file, memory_bytes); };
    slide = by_rows(open(), open);
  } else if (kHaveLibpng && starts("\x89PNG\r\n\x1a\n"sv)) {
    const auto open = [file] { return open_png_rows(file); };
    slide = by_rows(open(), open);
  }
  if (slide) return slide;
  const ImageInfo info = read_image_info(file);
  return std::make_unique<WholeSlide>(file, info, static_cast<int64_t>(fs::file_size(file)));
}

}  // namespace

std::unique_ptr<Slide> open_slide(const fs::path& file, int64_t memory_bytes, int rows) {
  std::unique_ptr<Slide> slide;
  try {
    slide = open_by_content(file, memory_bytes);
  } catch (const std::runtime_error& error) {
    if (kHaveOpenslide || !is_scanner_name(file)) throw;
    throw std::runtime_error(
        fmt::format("{}; the program was built without OpenSlide (libopenslide-dev), which reads "
                    "{} files",
                    error.what(), file.extension().string()));
  }
  constexpr int kSomeRows = 64;
  if (const int64_t needed = slide->memory(kSomeRows); needed > memory_bytes) {
    throw std::runtime_error(
        fmt::format("{}: {} x {} pixels need {} MiB to decode, more than the limit of {} MiB: raise it, or save the "
                    "slide as a tiled TIFF",
                    file.string(), slide->width(), slide->height(), needed >> 20, memory_bytes >> 20));
  }
  if (const int64_t needed = slide->memory(rows); needed > memory_bytes) {
    throw std::runtime_error(
        fmt::format("{}: a row of patches of {} pixels needs {} KiB, more than the limit of {} KiB", file.string(),
                    rows, needed >> 10, memory_bytes >> 10));
  }
  return slide;
}

bool is_slide_name(const fs::path& file) { return format_by_name(file).has_value() || is_scanner_name(file); }

std::string slide_libraries() {
  std::string text;
  const auto add = [&](bool have, const char* name) {
    if (have) text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  };
  add(kHaveTiff, "libtiff");
  add(kHaveLibjpeg, "libjpeg");
  add(kHaveLibpng, "libpng");
  add(kHaveOpenslide, "OpenSlide");
  return text;
}

}  // namespace gradlibra
