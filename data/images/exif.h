// SPDX-License-Identifier: MIT
// How the camera was held: the orientation tag of an EXIF block, as JPEG, PNG and WebP carry it.
#pragma once

#include <span>

namespace gradlibra {

// Tag 0x0112 of the first directory of a TIFF block (what follows "Exif\0\0" in a JPEG, the content of eXIf in a PNG),
// 1..8; 0 if there is none or it is not valid. Never reads outside `block`.
[[nodiscard]] int exif_orientation(std::span<const unsigned char> block);

}  // namespace gradlibra
