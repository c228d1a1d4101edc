// SPDX-License-Identifier: MIT
// What open_slide() chooses from, and how patches are written. Each library is optional: without it nothing of its
// reader is called.
#pragma once

#include <memory>
#include <string>

#include "data/slides/row_slide.h"
#include "data/slides/slide.h"

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_JPEG
inline constexpr bool kHaveLibjpeg = true;
#else
inline constexpr bool kHaveLibjpeg = false;
#endif
#ifdef GRADLIBRA_HAVE_PNG
inline constexpr bool kHaveLibpng = true;
#else
inline constexpr bool kHaveLibpng = false;
#endif
#ifdef GRADLIBRA_HAVE_OPENSLIDE
inline constexpr bool kHaveOpenslide = true;
#else
inline constexpr bool kHaveOpenslide = false;
#endif

// All throw std::runtime_error with the file's name. Null: a kind that cannot be read by rows (CMYK, interlaced).
[[nodiscard]] std::unique_ptr<RowDecoder> open_jpeg_rows(const std::filesystem::path& file, int64_t memory_bytes);
[[nodiscard]] std::unique_ptr<RowDecoder> open_png_rows(const std::filesystem::path& file);
[[nodiscard]] std::unique_ptr<Slide> open_tiff_slide(const std::filesystem::path& file, int64_t memory_bytes);
// The scanner's vendor by OpenSlide, empty if it does not know the file or knows it as any tiled TIFF.
[[nodiscard]] std::string openslide_vendor(const std::filesystem::path& file);
[[nodiscard]] std::unique_ptr<Slide> open_openslide(const std::filesystem::path& file);

// As write_image(), PNG by libpng where it is there: the same pixels in other bytes, and much sooner.
void write_patch(const std::filesystem::path& file, const Image& image);

}  // namespace gradlibra
