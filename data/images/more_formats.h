// SPDX-License-Identifier: MIT
// TIFF and WebP through libtiff and libwebp, each optional: without it nothing here is called.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_TIFF
inline constexpr bool kHaveTiff = true;
#else
inline constexpr bool kHaveTiff = false;
#endif
#ifdef GRADLIBRA_HAVE_WEBP
inline constexpr bool kHaveWebp = true;
#else
inline constexpr bool kHaveWebp = false;
#endif

// Size, orientation, bits and pages; empty if the header is corrupt.
[[nodiscard]] std::optional<ImageInfo> tiff_info(std::span<const unsigned char> bytes);
[[nodiscard]] std::optional<ImageInfo> webp_info(std::span<const unsigned char> bytes);

// (height, width, 3) RGB of the first page or frame, as stored (not turned). The limits have been checked by `info`.
// `problem` says why nothing came of it.
[[nodiscard]] std::vector<uint8_t> decode_tiff(std::span<const unsigned char> bytes, const ImageInfo& info,
                                               std::string& problem);
[[nodiscard]] std::vector<uint8_t> decode_webp(std::span<const unsigned char> bytes, const ImageInfo& info,
                                               std::string& problem);

}  // namespace gradlibra
