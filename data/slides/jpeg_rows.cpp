// SPDX-License-Identifier: MIT
// JPEG row by row through libjpeg.
#include <fmt/format.h>

#include <csetjmp>
#include <cstdio>
#include <stdexcept>

#include "data/slides/slide_readers.h"

#ifdef GRADLIBRA_HAVE_JPEG
#include <jpeglib.h>
// jpeglib.h first.
#include <jerror.h>
#endif

namespace gradlibra {

namespace fs = std::filesystem;

#ifdef GRADLIBRA_HAVE_JPEG
namespace {

// libjpeg leaves by longjmp, over functions of C alone: what calls it between setjmp and return has no object that
// would have to be destroyed.
struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->jump, 1);  // NOLINT(cert-err52-cpp): the library's way
}

// A decoder fills what is missing with grey and says so in a warning.
void judge_message(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE)) leave(info);
}

class JpegRows : public RowDecoder {
 public:
  JpegRows(const fs::path& file, int64_t memory_bytes) : name_(file.string()), file_(std::fopen(file.c_str(), "rb")) {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = leave;
    errors_.base.emit_message = judge_message;
    if (file_ == nullptr) throw std::runtime_error(name_ + ": cannot be opened");
    if (!begin()) {
      close();
      throw std::runtime_error(fmt::format("{}: cannot be decoded ({}): truncated or corrupt", name_, errors_.message));
    }
    width = static_cast<int>(info_.image_width);
    height = static_cast<int>(info_.image_height);
    four_colours_ = info_.num_components == 4;
    constexpr int64_t kRows = 64;  // of the library's own
    bytes = kRows * width * info_.num_components;
    if (jpeg_has_multiple_scans(&info_)) {
      bytes += static_cast<int64_t>(width) * height * info_.num_components * static_cast<int64_t>(sizeof(JCOEF));
      if (bytes > memory_bytes) {
        close();
        throw std::runtime_error(
            fmt::format("{}: is a progressive JPEG, which has to be held whole: {} MiB, more than the limit of {} MiB; "
                        "raise it, or save it as a baseline JPEG or a tiled TIFF",
                        name_, bytes >> 20, memory_bytes >> 20));
      }
    }
  }
  ~JpegRows() override { close(); }
  JpegRows(const JpegRows&) = delete;
  JpegRows& operator=(const JpegRows&) = delete;

  [[nodiscard]] bool four_colours() const { return four_colours_; }

  void next_row(uint8_t* rgb) override {
    if ((!started_ && !start()) || !decode(rgb))
      throw std::runtime_error(
          fmt::format("{}: cannot be decoded from row {} on ({}): truncated or corrupt", name_, row_, errors_.message));
    ++row_;
  }

 private:
  bool begin() {
    if (setjmp(errors_.jump) != 0) return false;  // NOLINT(cert-err52-cpp)
    jpeg_create_decompress(&info_);
    jpeg_stdio_src(&info_, file_);
    jpeg_read_header(&info_, TRUE);
    return true;
  }
  bool start() {
    if (setjmp(errors_.jump) != 0) return false;  // NOLINT(cert-err52-cpp)
    info_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info_);
    started_ = true;
    return true;
  }
  bool decode(uint8_t* rgb) {
    if (setjmp(errors_.jump) != 0) return false;  // NOLINT(cert-err52-cpp)
    JSAMPROW rows[1] = {rgb};
    return jpeg_read_scanlines(&info_, rows, 1) == 1;
  }
  void close() {
    jpeg_destroy_decompress(&info_);
    if (file_ != nullptr) std::fclose(file_);
    file_ = nullptr;
  }

  std::string name_;
  std::FILE* file_;
  jpeg_decompress_struct info_{};
  Errors errors_{};
  bool started_ = false, four_colours_ = false;
  int row_ = 0;
};

}  // namespace

std::unique_ptr<RowDecoder> open_jpeg_rows(const fs::path& file, int64_t memory_bytes) {
  auto rows = std::make_unique<JpegRows>(file, memory_bytes);
  if (rows->four_colours()) return nullptr;
  return rows;
}
#else
std::unique_ptr<RowDecoder> open_jpeg_rows(const fs::path&, int64_t) { return nullptr; }
#endif

}  // namespace gradlibra
