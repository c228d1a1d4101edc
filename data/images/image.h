// SPDX-License-Identifier: MIT
// Decoding, encoding and drawing of 8-bit RGB images. Files are untrusted: size limits come before decoding.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace gradlibra {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;  // (height, width, 3) RGB
  [[nodiscard]] uint8_t* at(int x, int y) { return pixels.data() + (static_cast<size_t>(y) * width + x) * 3; }
  [[nodiscard]] const uint8_t* at(int x, int y) const {
    return pixels.data() + (static_cast<size_t>(y) * width + x) * 3;
  }
};

enum class ImageFormat { jpeg, png, bmp };

struct ImageInfo {
  int width = 0, height = 0;               // of the pixels as stored
  int exif_orientation = 1;                // JPEG: 1..8; 1 if there is no tag
  ImageFormat format = ImageFormat::jpeg;  // by content, whatever the file is called
};

inline constexpr int64_t kMaxImageBytes = 512LL << 20;  // encoded
inline constexpr int kMaxImageSide = 1 << 15;
inline constexpr int64_t kMaxImagePixels = 1LL << 28;

// JPEG or PNG or BMP, told by content. std::runtime_error names the file and why: missing, not an image, over the
// limits, and (read_image only, the other reads no further than the header) truncated: a JPEG without its
// end-of-image marker and a BMP with fewer bytes than its pixels need count, although decoders accept them. Grey
// becomes R = G = B, transparency is ignored, 16 bits become 8. With `apply_exif` the pixels of a JPEG are turned
// upright by its orientation tag.
[[nodiscard]] ImageInfo read_image_info(const std::filesystem::path& file);
[[nodiscard]] Image read_image(const std::filesystem::path& file, bool apply_exif = false);

// Names of images end in one of these, in small letters or capitals; what a file holds is told by its content.
struct ImageExtension {
  const char* text;
  ImageFormat format;
};
inline constexpr std::array<ImageExtension, 4> kImageExtensions{{{".jpg", ImageFormat::jpeg},
                                                                 {".jpeg", ImageFormat::jpeg},
                                                                 {".png", ImageFormat::png},
                                                                 {".bmp", ImageFormat::bmp}}};
// What a file should hold by its name's extension.
[[nodiscard]] std::optional<ImageFormat> format_by_name(const std::filesystem::path& file);

// By extension: .png, .jpg (quality 92). Written to a temporary file and renamed.
void write_image(const std::filesystem::path& file, const Image& image);

// Area averaging when shrinking, bilinear when enlarging, per axis; pixel centres at half-integers. Sizes are at least
// 1.
[[nodiscard]] Image resize(const Image& image, int width, int height);

struct Color {
  uint8_t r, g, b;
};
// A distinct colour per class index; the first ten are apart for colour-blind people too.
[[nodiscard]] Color class_color(int label);
enum class LineStyle { solid, dashed };
// Box outline of the given thickness, inside the box and clipped to the image. Text in an embedded bitmap font
// (printable ASCII, another character shows as a filled block; 6 * scale pixels per character, 7 * scale high) with
// its lower left corner at (x, y), clipped to the image; a rim one pixel wide in black or white keeps it legible on
// any ground.
void draw_box(Image& image, float x1, float y1, float x2, float y2, Color color, int thickness = 2,
              LineStyle style = LineStyle::solid);
void draw_text(Image& image, int x, int y, const std::string& text, Color color, int scale = 1);
// Boxes in the colours of their classes, each with its text beside it (data/images/label_layout.h), the first on top.
struct LabelledBox {
  float x1, y1, x2, y2;
  int label;
  std::string text;
  LineStyle style = LineStyle::solid;
};
void draw_labelled_boxes(Image& image, const std::vector<LabelledBox>& boxes);

}  // namespace gradlibra
