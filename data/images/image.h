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

enum class ImageFormat { jpeg, png, bmp, tiff, webp };
[[nodiscard]] const char* to_string(ImageFormat format);  // "JPEG"

struct ImageInfo {
  int width = 0, height = 0;               // of the pixels as stored
  int exif_orientation = 1;                // JPEG, PNG, TIFF, WebP: 1..8; 1 if there is no tag
  ImageFormat format = ImageFormat::jpeg;  // by content, whatever the file is called
  int bits = 8;                            // per sample; of 16 the upper 8 are used
  int frames = 1;                          // of an animation or a TIFF of several pages; the first is used
  bool cmyk = false;                       // JPEG or TIFF in four colours, converted
};

inline constexpr int64_t kMaxImageBytes = 512LL << 20;  // encoded
inline constexpr int kMaxImageSide = 1 << 15;
inline constexpr int64_t kMaxImagePixels = 1LL << 28;

// JPEG, PNG or BMP, and TIFF and WebP where the program was built with their libraries, told by content.
// std::runtime_error names the file and why: missing, not an image (other formats are named), over the limits, and
// (read_image only, the other does not look at the pixels) truncated or corrupt: a JPEG without its end-of-image
// marker, a PNG with a wrong check sum or without its last chunk, and a BMP with fewer bytes than its pixels need
// count, although decoders accept them. Grey becomes R = G = B, transparency is ignored, 16 bits become 8. With
// `apply_exif` the pixels are turned upright by the orientation tag.
[[nodiscard]] ImageInfo read_image_info(const std::filesystem::path& file);
[[nodiscard]] Image read_image(const std::filesystem::path& file, bool apply_exif = false);
// Both with one reading of the file.
[[nodiscard]] Image read_image(const std::filesystem::path& file, bool apply_exif, ImageInfo& info);

// Names of images end in one of these, in small letters or capitals; what a file holds is told by its content.
struct ImageExtension {
  const char* text;
  ImageFormat format;
};
inline constexpr std::array<ImageExtension, 7> kImageExtensions{{{".jpg", ImageFormat::jpeg},
                                                                 {".jpeg", ImageFormat::jpeg},
                                                                 {".png", ImageFormat::png},
                                                                 {".bmp", ImageFormat::bmp},
                                                                 {".tif", ImageFormat::tiff},
                                                                 {".tiff", ImageFormat::tiff},
                                                                 {".webp", ImageFormat::webp}}};
// Whether this build decodes the format: TIFF and WebP want libtiff and libwebp.
[[nodiscard]] bool can_decode(ImageFormat format);
// What a file should hold by its name's extension.
[[nodiscard]] std::optional<ImageFormat> format_by_name(const std::filesystem::path& file);

// By extension: .png, .jpg (quality 92). Written to a temporary file and renamed; `durable`: as WriteOptions has it.
void write_image(const std::filesystem::path& file, const Image& image, bool durable = false);
// The bytes of a JPEG file, `quality` 1 to 100.
[[nodiscard]] std::string encode_jpeg(const Image& image, int quality = 92);

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
