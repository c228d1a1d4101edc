// SPDX-License-Identifier: MIT
// How libtiff is opened, by what reads images and by what reads slides. Includes the library's header: only for sources
// under GRADLIBRA_HAVE_TIFF.
#pragma once

#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace gradlibra {

struct CloseTiff {
  void operator()(TIFF* tiff) const noexcept { TIFFClose(tiff); }
};
using TiffHandle = std::unique_ptr<TIFF, CloseTiff>;

struct FreeTiffOptions {
  void operator()(TIFFOpenOptions* options) const noexcept { TIFFOpenOptionsFree(options); }
};

// No single allocation above `memory_bytes`. The library's first sentence about what is wrong comes into `said`, which
// must outlive the handle that is opened with this; nothing goes to stderr.
[[nodiscard]] inline std::unique_ptr<TIFFOpenOptions, FreeTiffOptions> tiff_options(int64_t memory_bytes,
                                                                                    std::string& said) {
  std::unique_ptr<TIFFOpenOptions, FreeTiffOptions> options(TIFFOpenOptionsAlloc());
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), static_cast<tmsize_t>(memory_bytes));
  const auto keep_error = [](TIFF*, void* to, const char*, const char* format, va_list arguments) {
    char text[512];
    static_cast<void>(std::vsnprintf(text, sizeof text, format, arguments));
    auto& message = *static_cast<std::string*>(to);
    if (message.empty()) message = text;
    return 1;  // handled
  };
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_error, &said);
  const auto ignore = [](TIFF*, void*, const char*, const char*, va_list) { return 1; };
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), ignore, nullptr);
  return options;
}

// Transparency is ignored, as in other formats: libtiff would multiply colours by it where the file says that this has
// not been done.
inline void ignore_alpha(TIFF* tiff) {
  uint16_t count = 0;
  uint16_t* kinds = nullptr;
  if (TIFFGetField(tiff, TIFFTAG_EXTRASAMPLES, &count, &kinds) == 0 || kinds == nullptr) return;
  std::vector<uint16_t> done(kinds, kinds + count);
  std::replace(done.begin(), done.end(), uint16_t{EXTRASAMPLE_UNASSALPHA}, uint16_t{EXTRASAMPLE_ASSOCALPHA});
  TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, count, done.data());
}

}  // namespace gradlibra
