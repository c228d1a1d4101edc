// SPDX-License-Identifier: MIT
// TensorBoard's event files, of which no more is needed than scalars.
//
// A file is a row of TFRecords, each: length (8 bytes), masked CRC-32C of those 8 bytes (4), data, masked CRC-32C of
// the data (4); numbers are little-endian. masked(crc) = rotate_right(crc, 15) + 0xa282ead8. The data are protocol
// buffers (tensorflow/core/util/event.proto, framework/summary.proto):
//   Event    1 wall_time (double)  2 step (int64)  3 file_version (string)  5 summary (Summary)  7 session_log
//   Summary  1 value (Value, repeated);   Value  1 tag (string)  2 simple_value (float)
//   SessionLog  1 status (1: START)
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gradlibra {

// CRC-32C (Castagnoli) of the bytes, and as TFRecord stores it.
[[nodiscard]] uint32_t crc32c(const std::string& bytes);
[[nodiscard]] uint32_t masked_crc32c(const std::string& bytes);

class EventFile {
 public:
  // A new file in the folder. Readers are told to forget what older files of the folder have of steps behind `step`: a
  // run that goes on from a checkpoint does them again. std::runtime_error if it cannot be written.
  EventFile(const std::filesystem::path& folder, int64_t step);
  // One value per tag.
  void write(int64_t step, const std::vector<std::pair<std::string, double>>& values);
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void append(const std::string& event);
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace gradlibra
