// SPDX-License-Identifier: MIT
// Whole files in and out of memory: a size cap on reading, a temporary file and a rename on writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace gradlibra {

// The file's bytes. std::runtime_error names the file and why: missing, not a regular file (a pipe or device could
// block or never end), larger than `max_bytes`, not readable. At most `first_bytes` of it when that is not negative.
[[nodiscard]] std::string read_file(const std::filesystem::path& file, int64_t max_bytes, int64_t first_bytes = -1);

// Writes beside `file` and renames over it, so that no reader sees half a file. Missing folders are made. Several
// threads may write at a time, also the same file: the last one wins. std::runtime_error names the file and why; then
// what was there is still there. Not flushed to the disk: checkpoints, which must outlive a power cut, are written by
// runtime/training/checkpoint_store.h.
void write_file(const std::filesystem::path& file, std::span<const char> bytes);

// The same for content that is made piece by piece: `produce` calls its argument with each.
using ByteSink = std::function<void(std::span<const std::byte>)>;
void write_file(const std::filesystem::path& file, const std::function<void(const ByteSink&)>& produce);

}  // namespace gradlibra
