// SPDX-License-Identifier: MIT
// Whole files in and out of memory.
#include "data/files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

struct FileCloser {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

[[noreturn]] void fail(const fs::path& file, const std::string& why) {
  throw std::runtime_error(file.string() + ": " + why);
}

}  // namespace

std::string read_file(const fs::path& file, int64_t max_bytes, int64_t first_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (status.type() == fs::file_type::not_found) fail(file, "no such file");
  if (error) fail(file, error.message());
  if (!fs::is_regular_file(status)) fail(file, "is not a regular file");
  const auto size = static_cast<int64_t>(fs::file_size(file, error));
  if (error) fail(file, error.message());
  if (size > max_bytes) fail(file, fmt::format("has {} bytes, more than the limit of {}", size, max_bytes));

  errno = 0;
  const FileHandle handle(std::fopen(file.c_str(), "rb"));
  if (!handle) fail(file, std::strerror(errno));
  const int64_t wanted = first_bytes < 0 ? size : std::min(size, first_bytes);
  std::string bytes(static_cast<size_t>(wanted), '\0');
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), handle.get());
  if (got != bytes.size()) fail(file, fmt::format("read {} of {} bytes", got, wanted));
  return bytes;
}

void write_file(const fs::path& file, std::span<const char> bytes) {
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (error) fail(file, "cannot make its folder: " + error.message());
  // Several threads may write at a time, also the same file: the last one wins.
  const size_t thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
  const fs::path temporary = file.string() + fmt::format(".tmp.{}.{:x}", ::getpid(), thread);

  errno = 0;
  FileHandle handle(std::fopen(temporary.c_str(), "wb"));
  if (!handle) fail(file, std::string("cannot write: ") + std::strerror(errno));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), handle.get()) == bytes.size();
  const bool closed = std::fclose(handle.release()) == 0;  // a full disk may show only here
  if (!written || !closed) {
    const std::string why = std::strerror(errno);
    fs::remove(temporary, error);
    fail(file, "cannot write: " + why);
  }
  fs::rename(temporary, file, error);
  if (error) {
    const std::string why = error.message();
    fs::remove(temporary, error);
    fail(file, "cannot rename the finished file: " + why);
  }
}

}  // namespace gradlibra
