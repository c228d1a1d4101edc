// SPDX-License-Identifier: MIT
// Whole files in and out of memory: a size cap on reading, a temporary file and a rename on writing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace gradlibra {

inline constexpr int64_t kMaxImageBytes = 512LL << 20;     // an encoded image
inline constexpr int64_t kMaxXmlBytes = 64LL << 20;        // the annotation of one image
inline constexpr int64_t kMaxAnnotationBytes = 2LL << 30;  // a COCO file
inline constexpr int64_t kMaxListBytes = 256LL << 20;      // a list of image names

// The file's bytes. std::runtime_error names the file and why: missing, not a regular file (a pipe or device could
// block or never end), larger than `max_bytes`, not readable. At most `first_bytes` of it when that is not negative.
[[nodiscard]] std::string read_file(const std::filesystem::path& file, int64_t max_bytes, int64_t first_bytes = -1);

// Writes beside `file` and renames over it, so that no reader sees half a file. Missing folders are made.
void write_file(const std::filesystem::path& file, std::span<const char> bytes);

}  // namespace gradlibra
