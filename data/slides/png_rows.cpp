// SPDX-License-Identifier: MIT
// PNG row by row through libpng.
#include <fmt/format.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "data/slides/slide_readers.h"

#ifdef GRADLIBRA_HAVE_PNG
#include <png.h>
#endif

namespace gradlibra {

namespace fs = std::filesystem;

#ifdef GRADLIBRA_HAVE_PNG
namespace {

// libpng leaves by longjmp, over functions of C alone: what calls it between setjmp and return has no object that would
// have to be destroyed.
struct Message {
  char text[256];
};

[[noreturn]] void leave(png_structp png, png_const_charp why) {
  auto* message = static_cast<Message*>(png_get_error_ptr(png));
  std::strncpy(message->text, why, sizeof message->text - 1);
  png_longjmp(png, 1);
}
void ignore(png_structp, png_const_charp) {}

class PngRows : public RowDecoder {
 public:
  explicit PngRows(const fs::path& file) : name_(file.string()), file_(std::fopen(file.c_str(), "rb")) {
    if (file_ == nullptr) throw std::runtime_error(name_ + ": cannot be opened");
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, leave, ignore);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr || !begin()) {
      close();
      throw std::runtime_error(fmt::format("{}: cannot be decoded ({}): truncated or corrupt", name_, message_.text));
    }
    width = static_cast<int>(png_get_image_width(png_, info_));
    height = static_cast<int>(png_get_image_height(png_, info_));
    constexpr int64_t kRows = 4;  // of the library's own, of up to 4 samples of 16 bits
    bytes = kRows * width * 8;
  }
  ~PngRows() override { close(); }
  PngRows(const PngRows&) = delete;
  PngRows& operator=(const PngRows&) = delete;

  [[nodiscard]] bool interlaced() const { return png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE; }

  void next_row(uint8_t* rgb) override {
    if (!decode(rgb))
      throw std::runtime_error(
          fmt::format("{}: cannot be decoded from row {} on ({}): truncated or corrupt", name_, row_, message_.text));
    ++row_;
  }

 private:
  // As the other pictures of this program: 16 bits lose the lower 8, transparency is left out.
  bool begin() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_init_io(png_, file_);
    png_read_info(png_, info_);
    png_set_expand(png_);
    png_set_strip_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    return true;
  }
  // Behind the last row comes the check sum of the last chunk.
  bool decode(uint8_t* rgb) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_read_row(png_, rgb, nullptr);
    if (row_ + 1 == height) png_read_end(png_, nullptr);
    return true;
  }
  void close() {
    if (png_ != nullptr) png_destroy_read_struct(&png_, info_ == nullptr ? nullptr : &info_, nullptr);
    if (file_ != nullptr) std::fclose(file_);
    file_ = nullptr;
  }

  std::string name_;
  std::FILE* file_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  Message message_{};
  int row_ = 0;
};

}  // namespace

std::unique_ptr<RowDecoder> open_png_rows(const fs::path& file) {
  auto rows = std::make_unique<PngRows>(file);
  if (rows->interlaced()) return nullptr;
  return rows;
}
#else
std::unique_ptr<RowDecoder> open_png_rows(const fs::path&) { return nullptr; }
#endif

}  // namespace gradlibra
