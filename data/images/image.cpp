// SPDX-License-Identifier: MIT
// Decoding and encoding of images. Every check that a decoder might leave out comes before it.
#include "data/images/image.h"

#include <fmt/format.h>
#include <stb_image.h>
#include <stb_image_write.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>

#include "data/images/jpeg_structure.h"
#include "data/images/more_formats.h"
#include "data/images/png_structure.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const unsigned char>;

constexpr const char* kBadHeader = "its header is cut off or corrupt, or states more pixels than can be decoded";

[[noreturn]] void fail(const fs::path& file, const std::string& why) {
  throw std::runtime_error(file.string() + ": " + why);
}

Bytes as_bytes(const std::string& text) { return {reinterpret_cast<const unsigned char*>(text.data()), text.size()}; }

std::optional<ImageFormat> format_of(Bytes bytes) {
  static constexpr unsigned char kPng[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  if (bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return ImageFormat::jpeg;
  if (bytes.size() >= 8 && std::memcmp(bytes.data(), kPng, 8) == 0) return ImageFormat::png;
  if (bytes.size() >= 2 && bytes[0] == 'B' && bytes[1] == 'M') return ImageFormat::bmp;
  if (bytes.size() >= 4 && (std::memcmp(bytes.data(), "II*\0", 4) == 0 || std::memcmp(bytes.data(), "MM\0*", 4) == 0))
    return ImageFormat::tiff;
  if (bytes.size() >= 12 && std::memcmp(bytes.data(), "RIFF", 4) == 0 && std::memcmp(bytes.data() + 8, "WEBP", 4) == 0)
    return ImageFormat::webp;
  return std::nullopt;
}

// What a file that is none of ours seems to be, for messages.
const char* other_format(Bytes bytes) {
  const auto starts = [&](size_t at, std::string_view with) {
    return bytes.size() >= at + with.size() && std::memcmp(bytes.data() + at, with.data(), with.size()) == 0;
  };
  if (starts(0, "GIF8")) return "a GIF";
  if (starts(0, "RIFF")) return "a RIFF file that is no WebP";
  if (starts(4, "ftypavif")) return "an AVIF";
  if (starts(4, "ftyphei") || starts(4, "ftypmif1")) return "a HEIF";
  if (starts(4, "jP  ") || starts(0, "\xff\x4f\xff\x51")) return "a JPEG 2000";
  if (starts(0, "%PDF")) return "a PDF";
  if (starts(0, "<") || starts(0, "\xef\xbb\xbf<")) return "XML or HTML text (a download that failed?)";
  if (starts(0, "version https://git-lfs")) return "a Git LFS pointer: the picture itself was not fetched";
  if (starts(0, "PK\x03\x04")) return "a zip archive";
  if (starts(128, "DICM")) return "a DICOM";
  if (starts(0, std::string_view("II+\0", 4)) || starts(0, std::string_view("MM\0+", 4))) return "a BigTIFF";
  return nullptr;
}

// Format and size out of a header; empty if `bytes` (maybe only the file's beginning) do not reach far enough or are
// corrupt. Nothing that fails our own checks reaches the decoder.
std::optional<ImageInfo> header_of(Bytes bytes, ImageFormat format) {
  ImageInfo info;
  int channels = 0;
  if (format == ImageFormat::jpeg) {
    const JpegStructure structure = jpeg_structure(bytes, /*header_only=*/true);
    if (!structure.complete || !structure.sound) return std::nullopt;
    info.exif_orientation = structure.exif_orientation;
    info.cmyk = structure.components == 4;
    info.bits = structure.bits;
  }
  if (format == ImageFormat::png) {
    const PngStructure structure = png_structure(bytes, /*header_only=*/true);
    info.exif_orientation = structure.exif_orientation;
    info.bits = structure.bits;
    info.frames = structure.frames;
  }
  if (format == ImageFormat::tiff) return tiff_info(bytes);
  if (format == ImageFormat::webp) return webp_info(bytes);
  if (!stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &info.width, &info.height, &channels))
    return std::nullopt;
  info.format = format;
  return info;
}

void check_format(const fs::path& file, Bytes bytes) {
  if (bytes.empty()) fail(file, "is empty");
  const std::optional<ImageFormat> format = format_of(bytes);
  if (!format) {
    const char* other = other_format(bytes);
    const std::string readable = fmt::format("JPEG, PNG{} BMP", can_decode(ImageFormat::tiff)   ? ", TIFF, WebP or"
                                                                : can_decode(ImageFormat::webp) ? ", WebP or"
                                                                                                : " or");
    if (other) fail(file, fmt::format("is not an image that can be read, but {}; readable are {}", other, readable));
    const bool zeros = std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return c == 0; });
    if (zeros) fail(file, fmt::format("holds {} zero bytes and nothing else: not an image", bytes.size()));
    fail(file, fmt::format("is not an image (by its first bytes neither {})", readable));
  }
  if (!can_decode(*format))
    fail(file, fmt::format("is a {}, which this program was built without (lib{}-dev): convert it to PNG",
                           to_string(*format), *format == ImageFormat::tiff ? "tiff" : "webp"));
}

void check_limits(const fs::path& file, const ImageInfo& info) {
  if (info.width < 1 || info.height < 1) fail(file, fmt::format("has no pixels ({} x {})", info.width, info.height));
  if (info.bits > 16)
    fail(file, fmt::format("has {} bits a sample, which are not decoded: save it with 8 or 16", info.bits));
  const int64_t pixels = static_cast<int64_t>(info.width) * info.height;
  if (info.width > kMaxImageSide || info.height > kMaxImageSide || pixels > kMaxImagePixels) {
    fail(file, fmt::format("is {} x {} pixels, over the limits ({} a side, {} in all)", info.width, info.height,
                           kMaxImageSide, kMaxImagePixels));
  }
}

// True if an uncompressed BMP (the only kind that is decoded) has all bytes of its pixels.
bool bmp_complete(Bytes bytes, const ImageInfo& info) {
  const auto u32 = [&](size_t at) {
    return static_cast<uint64_t>(bytes[at]) | static_cast<uint64_t>(bytes[at + 1]) << 8 |
           static_cast<uint64_t>(bytes[at + 2]) << 16 | static_cast<uint64_t>(bytes[at + 3]) << 24;
  };
  if (bytes.size() < 30) return false;
  const uint64_t offset = u32(10), header = u32(14);
  const uint64_t bits =
      header == 12 ? bytes[24] | bytes[25] << 8 : bytes[28] | bytes[29] << 8;  // OS/2 or Windows header
  const uint64_t row = (static_cast<uint64_t>(info.width) * bits + 31) / 32 * 4;
  return offset + row * static_cast<uint64_t>(info.height) <= bytes.size();
}

// The pixels as the camera was held: transposition first (orientations 5 to 8), then the mirrors.
Image upright(Image image, int orientation) {
  if (orientation <= 1) return image;
  const bool transpose = orientation >= 5;
  const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  Image out{transpose ? image.height : image.width, transpose ? image.width : image.height, {}};
  out.pixels.resize(image.pixels.size());
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int u = mirror_x ? out.width - 1 - x : x;
      const int v = mirror_y ? out.height - 1 - y : y;
      std::copy_n(transpose ? image.at(v, u) : image.at(u, v), 3, out.at(x, y));
    }
  }
  return out;
}

// Why stb_image gave up, in words that say what to do.
std::string decoder_problem(ImageFormat format) {
  const std::string why = stbi_failure_reason() ? stbi_failure_reason() : "";
  if (why == "BMP RLE") return "is a run-length encoded BMP, which is not decoded: save it uncompressed, or as PNG";
  if (format == ImageFormat::bmp && (why == "bad BMP" || why == "unknown BMP" || why == "bad masks"))
    return "is a BMP of a rare kind (" + why + "), which is not decoded: save it as PNG";
  if (why == "only 8-bit") return "is a JPEG of 12 bits a sample, which is not decoded: save it as PNG";
  if (why.find("arith") != std::string::npos)
    return "is a JPEG with arithmetic coding, which is not decoded: save it as PNG";
  return fmt::format("cannot be decoded ({}): truncated or corrupt", escaped(why));
}

struct StbFree {
  void operator()(unsigned char* pixels) const noexcept { stbi_image_free(pixels); }
};

}  // namespace

const char* to_string(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg:
      return "JPEG";
    case ImageFormat::png:
      return "PNG";
    case ImageFormat::bmp:
      return "BMP";
    case ImageFormat::tiff:
      return "TIFF";
    case ImageFormat::webp:
      return "WebP";
  }
  return "";
}

bool can_decode(ImageFormat format) {
  return format == ImageFormat::tiff ? kHaveTiff : format == ImageFormat::webp ? kHaveWebp : true;
}

ImageInfo read_image_info(const fs::path& file) {
  // Headers are short, but comments, colour profiles and previews may come before the size, the orientation of a PNG
  // behind the pixels, and a TIFF's directories anywhere: then the whole file is read.
  constexpr int64_t kUsualHeader = 64 << 10;
  std::string text = read_file(file, kMaxImageBytes, kUsualHeader);
  check_format(file, as_bytes(text));
  const ImageFormat format = *format_of(as_bytes(text));
  std::optional<ImageInfo> info;
  const bool header_suffices = format == ImageFormat::jpeg || format == ImageFormat::bmp;
  if (header_suffices) info = header_of(as_bytes(text), format);
  if (!info && (!header_suffices || static_cast<int64_t>(text.size()) == kUsualHeader)) {
    if (static_cast<int64_t>(text.size()) == kUsualHeader) text = read_file(file, kMaxImageBytes);
    info = header_of(as_bytes(text), format);
  }
  if (!info) fail(file, kBadHeader);
  check_limits(file, *info);
  return *info;
}

Image read_image(const fs::path& file, bool apply_exif) {
  ImageInfo info;
  return read_image(file, apply_exif, info);
}

Image read_image(const fs::path& file, bool apply_exif, ImageInfo& info) {
  const std::string text = read_file(file, kMaxImageBytes);
  const Bytes bytes = as_bytes(text);
  check_format(file, bytes);
  const ImageFormat format = *format_of(bytes);
  if (format == ImageFormat::jpeg) {
    const JpegStructure structure = jpeg_structure(bytes);
    if (!structure.sound) fail(file, "is corrupt: a Huffman table with more than 256 codes");
    if (!structure.complete)
      fail(file, fmt::format("is truncated: no end-of-image marker in its {} bytes", bytes.size()));
  }
  const std::optional<ImageInfo> header = header_of(bytes, format);
  if (!header) fail(file, kBadHeader);
  check_limits(file, *header);
  info = *header;
  if (format == ImageFormat::png) {
    if (const std::string problem = png_structure(bytes).problem; !problem.empty()) fail(file, problem);
  }
  if (format == ImageFormat::bmp && !bmp_complete(bytes, info)) {
    fail(file, fmt::format("is truncated: {} bytes do not hold {} x {} pixels", bytes.size(), info.width, info.height));
  }
  Image image{info.width, info.height, {}};
  if (format == ImageFormat::tiff || format == ImageFormat::webp) {
    std::string problem;
    image.pixels = format == ImageFormat::tiff ? decode_tiff(bytes, info, problem) : decode_webp(bytes, info, problem);
    if (!problem.empty()) fail(file, fmt::format("cannot be decoded ({}): truncated or corrupt", problem));
  } else {
    int width = 0, height = 0, channels = 0;
    const std::unique_ptr<unsigned char, StbFree> pixels(
        stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 3));
    if (!pixels) fail(file, decoder_problem(format));
    if (width != info.width || height != info.height) fail(file, "decodes to another size than its header states");
    image.pixels.assign(pixels.get(), pixels.get() + static_cast<size_t>(width) * height * 3);
  }
  return apply_exif ? upright(std::move(image), info.exif_orientation) : image;
}

std::optional<ImageFormat> format_by_name(const fs::path& file) {
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (const ImageExtension& known : kImageExtensions)
    if (extension == known.text) return known.format;
  return std::nullopt;
}

namespace {

// Empty, or why it is no picture.
std::string size_problem(const Image& image) {
  if (image.width >= 1 && image.height >= 1 &&
      image.pixels.size() == static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3)
    return "";
  return fmt::format("{} bytes are no {} x {} image", image.pixels.size(), image.width, image.height);
}

void append(void* context, void* data, int size) {
  static_cast<std::string*>(context)->append(static_cast<const char*>(data), static_cast<size_t>(size));
}

}  // namespace

std::string encode_jpeg(const Image& image, int quality) {
  if (const std::string problem = size_problem(image); !problem.empty()) throw std::invalid_argument(problem);
  std::string encoded;
  if (!stbi_write_jpg_to_func(append, &encoded, image.width, image.height, 3, image.pixels.data(), quality))
    throw std::runtime_error(fmt::format("a {} x {} image cannot be encoded", image.width, image.height));
  return encoded;
}

void write_image(const fs::path& file, const Image& image, bool durable) {
  if (const std::string problem = size_problem(image); !problem.empty()) fail(file, "cannot write: " + problem);
  const std::optional<ImageFormat> format = format_by_name(file);
  std::string encoded;
  bool ok = true;
  if (format == ImageFormat::png) {
    ok = stbi_write_png_to_func(append, &encoded, image.width, image.height, 3, image.pixels.data(), image.width * 3);
  } else if (format == ImageFormat::jpeg) {
    encoded = encode_jpeg(image);
  } else {
    fail(file, "cannot write: the name must end in .png, .jpg or .jpeg");
  }
  if (!ok) fail(file, "cannot be encoded");
  write_file(file, encoded, {.durable = durable});
}

}  // namespace gradlibra
