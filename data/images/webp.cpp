// SPDX-License-Identifier: MIT
// WebP through libwebp.
#include <cstring>
#include <string_view>

#include "data/images/exif.h"
#include "data/images/more_formats.h"

#ifdef GRADLIBRA_HAVE_WEBP
#include <webp/decode.h>
#endif

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_WEBP
namespace {

using Bytes = std::span<const unsigned char>;

uint32_t u32(Bytes bytes, size_t at) {
  return static_cast<uint32_t>(bytes[at]) | static_cast<uint32_t>(bytes[at + 1]) << 8 |
         static_cast<uint32_t>(bytes[at + 2]) << 16 | static_cast<uint32_t>(bytes[at + 3]) << 24;
}

// Orientation and number of frames out of the chunks of the RIFF container; the first frame's own data.
struct Container {
  int orientation = 1, frames = 0;
  Bytes first_frame;  // the chunks of an animation's first frame; empty: the file is one picture
};
Container container(Bytes bytes) {
  Container result;
  size_t at = 12;  // "RIFF", size, "WEBP"
  while (at + 8 <= bytes.size()) {
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at, 4);
    const size_t size = u32(bytes, at + 4);
    if (size > bytes.size() - at - 8) break;
    Bytes data = bytes.subspan(at + 8, size);
    if (type == "EXIF") {
      if (data.size() >= 6 && std::memcmp(data.data(), "Exif\0\0", 6) == 0) data = data.subspan(6);
      if (const int orientation = exif_orientation(data); orientation != 0) result.orientation = orientation;
    }
    if (type == "ANMF" && ++result.frames == 1 && data.size() > 16) result.first_frame = data.subspan(16);
    at += 8 + size + (size & 1);
  }
  if (result.frames == 0) result.frames = 1;
  return result;
}

}  // namespace

std::optional<ImageInfo> webp_info(Bytes bytes) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK) return std::nullopt;
  const Container parts = container(bytes);
  ImageInfo info{.width = features.width, .height = features.height};
  info.format = ImageFormat::webp;
  info.exif_orientation = parts.orientation;
  info.frames = parts.frames;
  return info;
}

std::vector<uint8_t> decode_webp(Bytes bytes, const ImageInfo& info, std::string& problem) {
  if (bytes.size() >= 8 && u32(bytes, 4) > bytes.size() - 8) {
    problem = "fewer bytes than its header states";
    return {};
  }
  const Container parts = container(bytes);
  // libwebp decodes the bare chunks of a frame, too. Frames smaller than the picture are refused by the size below.
  const Bytes data = parts.first_frame.empty() ? bytes : parts.first_frame;
  std::vector<uint8_t> pixels(static_cast<size_t>(info.width) * static_cast<size_t>(info.height) * 3);
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.data(), data.size(), &features) != VP8_STATUS_OK || features.width != info.width ||
      features.height != info.height) {
    problem = "its first frame does not cover the picture";
    return {};
  }
  if (!WebPDecodeRGBInto(data.data(), data.size(), pixels.data(), pixels.size(), info.width * 3)) {
    problem = "libwebp";
    return {};
  }
  return pixels;
}
#else
std::optional<ImageInfo> webp_info(std::span<const unsigned char>) { return std::nullopt; }
std::vector<uint8_t> decode_webp(std::span<const unsigned char>, const ImageInfo&, std::string& problem) {
  problem = "built without libwebp";
  return {};
}
#endif

}  // namespace gradlibra
