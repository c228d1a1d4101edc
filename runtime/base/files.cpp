// SPDX-License-Identifier: MIT
// Whole files in and out of memory.
#include "runtime/base/files.h"

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
  write_file(file, [&](const ByteSink& sink) { sink(std::as_bytes(bytes)); });
}

void write_file(const fs::path& file, const std::function<void(const ByteSink&)>& produce) {
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (error) fail(file, "cannot make its folder: " + error.message());
  const size_t thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
  const fs::path temporary = file.string() + fmt::format(".tmp.{}.{:x}", ::getpid(), thread);
  const auto give_up = [&](const std::string& what, const std::string& why) {
    fs::remove(temporary, error);
    fail(file, what + ": " + why);
  };

  errno = 0;
  FileHandle handle(std::fopen(temporary.c_str(), "wb"));
  if (!handle) fail(file, std::string("cannot write: ") + std::strerror(errno));
  bool written = true;
  try {
    produce([&](std::span<const std::byte> bytes) {
      written = written && std::fwrite(bytes.data(), 1, bytes.size(), handle.get()) == bytes.size();
    });
  } catch (...) {
    handle.reset();
    fs::remove(temporary, error);
    throw;
  }
  const int reason = errno;
  const bool closed = std::fclose(handle.release()) == 0;  // a full disk may show only here
  if (!written || !closed) give_up("cannot write", std::strerror(written ? errno : reason));
  fs::rename(temporary, file, error);
  if (error) give_up("cannot rename the finished file", error.message());
}

}  // namespace gradlibra
