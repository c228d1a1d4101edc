// SPDX-License-Identifier: MIT
// PNG files of patches through libpng: a slide gives tens of thousands, and stb takes several times as long for each.
#include <csetjmp>
#include <stdexcept>

#include "data/slides/slide_readers.h"
#include "runtime/base/files.h"

#ifdef GRADLIBRA_HAVE_PNG
#include <png.h>
#endif

namespace gradlibra {

namespace fs = std::filesystem;

#ifdef GRADLIBRA_HAVE_PNG
namespace {

// libpng leaves by longjmp, over functions of C alone: nothing in between has to be destroyed.
[[noreturn]] void leave(png_structp png, png_const_charp) { png_longjmp(png, 1); }
void ignore(png_structp, png_const_charp) {}
void append(png_structp png, png_bytep bytes, size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), count);
}

bool encode(png_structp png, png_infop info, const Image& image) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;  // NOLINT(cert-err52-cpp)
  // On pictures of cells smaller than stb's level 8, in a fraction of the time.
  png_set_compression_level(png, 1);
  png_set_filter(png, 0, PNG_FILTER_PAETH);
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  for (int y = 0; y < image.height; ++y) png_write_row(png, image.at(0, y));
  png_write_end(png, nullptr);
  return true;
}

}  // namespace

void write_patch(const fs::path& file, const Image& image) {
  if (format_by_name(file) != ImageFormat::png) return write_image(file, image);
  std::string bytes;
  bytes.reserve(image.pixels.size() + image.pixels.size() / 64 + 65536);  // more than deflate ever makes of it
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, leave, ignore);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  bool done = false;
  if (info != nullptr) {
    png_set_write_fn(png, &bytes, append, nullptr);
    done = encode(png, info, image);
  }
  png_destroy_write_struct(&png, &info);
  if (!done) throw std::runtime_error(file.string() + ": cannot be encoded");
  write_file(file, bytes);
}
#else
void write_patch(const fs::path& file, const Image& image) { write_image(file, image); }
#endif

}  // namespace gradlibra
