// SPDX-License-Identifier: MIT
// TIFF out of memory through libtiff, which never sees a file.
#include <algorithm>
#include <cstring>

#include "data/images/more_formats.h"

#ifdef GRADLIBRA_HAVE_TIFF
#include "data/images/tiff_options.h"
#endif

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_TIFF
namespace {

using Bytes = std::span<const unsigned char>;

struct Memory {
  Bytes bytes;
  uint64_t at = 0;
  bool mapped = false;  // libtiff may read it in place
};

tsize_t read_bytes(thandle_t handle, tdata_t to, tsize_t size) {
  auto& memory = *static_cast<Memory*>(handle);
  if (memory.at >= memory.bytes.size() || size <= 0) return 0;
  const size_t count = std::min<size_t>(static_cast<size_t>(size), memory.bytes.size() - memory.at);
  std::memcpy(to, memory.bytes.data() + memory.at, count);
  memory.at += count;
  return static_cast<tsize_t>(count);
}
tsize_t write_bytes(thandle_t, tdata_t, tsize_t) { return 0; }
toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto& memory = *static_cast<Memory*>(handle);
  const uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? memory.at : memory.bytes.size();
  memory.at = from + offset;
  return memory.at;
}
int close_memory(thandle_t) { return 0; }
toff_t size_of(thandle_t handle) { return static_cast<Memory*>(handle)->bytes.size(); }
int map_file(thandle_t handle, tdata_t* base, toff_t* size) {
  const auto& memory = *static_cast<Memory*>(handle);
  if (!memory.mapped) return 0;
  *base = const_cast<unsigned char*>(memory.bytes.data());
  *size = memory.bytes.size();
  return 1;
}
void unmap_file(thandle_t, tdata_t, toff_t) {}

TiffHandle open(Memory& memory, std::string& problem) {
  const auto options = tiff_options(kMaxImagePixels * 8, problem);
  return TiffHandle(TIFFClientOpenExt("memory", memory.mapped ? "r" : "rm", &memory, read_bytes, write_bytes, seek,
                                      close_memory, size_of, map_file, unmap_file, options.get()));
}

}  // namespace

std::optional<ImageInfo> tiff_info(Bytes bytes) {
  Memory memory{bytes};
  std::string unheard;
  const TiffHandle tiff = open(memory, unheard);
  uint32_t width = 0, height = 0;
  if (!tiff || !TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width) ||
      !TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height) || width > INT32_MAX || height > INT32_MAX)
    return std::nullopt;
  uint16_t bits = 1, orientation = 1;
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_BITSPERSAMPLE, &bits);
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_ORIENTATION, &orientation);
  uint16_t colours = PHOTOMETRIC_MINISBLACK;
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_PHOTOMETRIC, &colours);
  ImageInfo info{.width = static_cast<int>(width), .height = static_cast<int>(height)};
  info.format = ImageFormat::tiff;
  info.bits = bits;
  info.cmyk = colours == PHOTOMETRIC_SEPARATED;
  info.exif_orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
  constexpr int kManyPages = 1000;
  while (info.frames < kManyPages && TIFFReadDirectory(tiff.get())) ++info.frames;
  return info;
}

std::vector<uint8_t> decode_tiff(Bytes bytes, const ImageInfo& info, std::string& problem) {
  Memory memory{bytes};
  std::string said;
  const auto give_up = [&](const std::string& why) {
    problem = said.empty() ? why : said;
    return std::vector<uint8_t>();
  };
  TiffHandle tiff = open(memory, said);
  char why[1024] = "";
  if (!tiff) return give_up("libtiff does not open it");
  uint16_t compression = COMPRESSION_NONE;
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_COMPRESSION, &compression);
  if (TIFFIsTiled(tiff.get()) && compression == COMPRESSION_NONE) {
    // libtiff 4.5 refuses uncompressed tiles whose bytes are no multiple of 1024 where it has to copy them.
    memory = {.bytes = bytes, .mapped = true};
    tiff.reset();
    tiff = open(memory, said);
    if (!tiff) return give_up("libtiff does not open it");
  }
  ignore_alpha(tiff.get());
  if (!TIFFRGBAImageOK(tiff.get(), why)) return give_up(why);
  const auto width = static_cast<size_t>(info.width), height = static_cast<size_t>(info.height);
  std::vector<uint32_t> rgba(width * height);
  // Asked for in the orientation that the file has, libtiff does not turn the picture: that is for who called.
  if (!TIFFReadRGBAImageOriented(tiff.get(), static_cast<uint32_t>(width), static_cast<uint32_t>(height), rgba.data(),
                                 info.exif_orientation, /*stopOnError=*/1))
    return give_up("libtiff");
  std::vector<uint8_t> pixels(width * height * 3);
  for (size_t i = 0; i < rgba.size(); ++i) {
    pixels[3 * i] = static_cast<uint8_t>(TIFFGetR(rgba[i]));
    pixels[3 * i + 1] = static_cast<uint8_t>(TIFFGetG(rgba[i]));
    pixels[3 * i + 2] = static_cast<uint8_t>(TIFFGetB(rgba[i]));
  }
  return pixels;
}
#else
std::optional<ImageInfo> tiff_info(std::span<const unsigned char>) { return std::nullopt; }
std::vector<uint8_t> decode_tiff(std::span<const unsigned char>, const ImageInfo&, std::string& problem) {
  problem = "built without libtiff";
  return {};
}
#endif

}  // namespace gradlibra
