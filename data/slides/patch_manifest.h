// SPDX-License-Identifier: MIT
// What tells a finished set of patches from one of other slides, boxes or options: hashes for its manifest, and the
// words for what differs.
#pragma once

#include <filesystem>
#include <string>

#include "data/slides/slide_set.h"

namespace gradlibra {

// XXH64 of the slide's objects in their order: label, corners, flags and area.
[[nodiscard]] std::string hash_annotations(const AnnotatedSlide& slide);

// XXH64 of a slide's bytes. Of a file of more than 2 MiB 16 pieces of 128 KiB count, the first at its beginning, the
// last at its end and the others evenly between them: slides may be gigabytes on another machine, and two that differ
// hardly agree in all of these. Of an .mrxs slide the files of the folder beside it count with their names, sizes and
// two pieces of each; what other formats keep in further files is not seen. ReadError names a file that cannot be read.
[[nodiscard]] std::string hash_slide(const std::filesystem::path& file);

// Why a set whose patches.json has the text `found` is not the one that `wanted` stands for: the end of a sentence that
// begins with the set's folder. It names options, classes and slides as far as `found` can be read.
[[nodiscard]] std::string why_another_set(const std::string& found, const std::string& wanted);

}  // namespace gradlibra
