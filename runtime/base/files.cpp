// SPDX-License-Identifier: MIT
// Whole files in and out of memory.
#include "runtime/base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

struct FileCloser {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

[[noreturn]] void fail(const fs::path& file, const std::string& why) { throw ReadError(file.string() + ": " + why); }

template <class Call>
auto retry(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// A file that is removed unless it gets its final name.
class TemporaryFile {
 public:
  TemporaryFile(fs::path path, const fs::path& final_name, const FileCalls& calls)
      : path_(std::move(path)), final_name_(final_name), calls_(calls) {
    file_ = retry([&] { return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666); });
    if (file_ < 0) throw WriteError(file_failure("cannot create", final_name_, errno));
    (void)::flock(file_, LOCK_EX | LOCK_NB);  // tells other processes that its writer is alive
  }
  ~TemporaryFile() {
    if (file_ >= 0) (void)calls_.close(file_);
    if (!path_.empty()) (void)::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = calls_.write(file_, bytes.data(), std::min<size_t>(bytes.size(), 16 << 20));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) throw WriteError(file_failure("cannot write", final_name_, written < 0 ? errno : ENOSPC));
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }
  void flush() {
    if (retry([&] { return calls_.fsync(file_); }) != 0)
      throw WriteError(file_failure("cannot flush to the disk", final_name_, errno));
  }
  void take_final_name() {
    // NFS reports a full disk here; after EINTR the file is closed.
    const int closed = calls_.close(file_);
    file_ = -1;
    if (closed != 0 && errno != EINTR) throw WriteError(file_failure("cannot close", final_name_, errno));
    if (calls_.rename(path_.c_str(), final_name_.c_str()) != 0)
      throw WriteError(file_failure("cannot rename the finished file to", final_name_, errno));
    path_.clear();
  }

 private:
  fs::path path_;
  const fs::path& final_name_;  // errors name this one
  const FileCalls& calls_;
  int file_ = -1;
};

// Into a device or a pipe, which nothing replaces.
void write_through(const fs::path& file, const std::function<void(const ByteSink&)>& produce, const FileCalls& calls) {
  const int target = retry([&] { return ::open(file.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY); });
  if (target < 0) throw WriteError(file_failure("cannot open", file, errno));
  try {
    produce([&](std::span<const std::byte> bytes) {
      while (!bytes.empty()) {
        const ssize_t written = retry([&] { return calls.write(target, bytes.data(), bytes.size()); });
        if (written <= 0) throw WriteError(file_failure("cannot write", file, written < 0 ? errno : ENOSPC));
        bytes = bytes.subspan(static_cast<size_t>(written));
      }
    });
  } catch (...) {
    (void)calls.close(target);
    throw;
  }
  if (calls.close(target) != 0) throw WriteError(file_failure("cannot close", file, errno));
}

// The folder's entry of a new name.
void flush_folder(const fs::path& path, const FileCalls& calls) {
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) throw WriteError(file_failure("cannot open the folder", path, errno));
  const int flushed = retry([&] { return calls.fsync(folder); });
  const int error = errno;
  (void)calls.close(folder);
  if (flushed != 0 && error != EINVAL && error != ENOTSUP)  // some file systems have no fsync of folders
    throw WriteError(file_failure("cannot flush to the disk", path, error));
}

}  // namespace

fs::path move_aside(const fs::path& file) {
  for (int i = 1;; ++i) {
    fs::path other = file.parent_path() / (file.stem().string() + "." + std::to_string(i) + file.extension().string());
    if (fs::exists(fs::symlink_status(other))) continue;
    fs::rename(file, other);
    return other;
  }
}

std::string file_failure(const std::string& what, const fs::path& path, int error) {
  std::string text = what + " " + path.string() + ": " + std::strerror(error);
  if (error == ENOSPC) text += "; free some space";
  if (error == EDQUOT) text += "; the user's quota is used up";
  if (error == EFBIG) text += "; the limit on file sizes (ulimit -f) is too low";
  return text;
}

std::string read_file(const fs::path& file, int64_t max_bytes, int64_t first_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (status.type() == fs::file_type::not_found) fail(file, "no such file");
  if (error) fail(file, error.message());
  if (!fs::is_regular_file(status)) fail(file, "is not a regular file");
  const auto size = static_cast<int64_t>(fs::file_size(file, error));
  if (error) fail(file, error.message());
  if (size > max_bytes)
    throw std::runtime_error(
        fmt::format("{}: has {} bytes, more than the limit of {}", file.string(), size, max_bytes));

  errno = 0;
  const FileHandle handle(std::fopen(file.c_str(), "rb"));
  if (!handle) fail(file, std::strerror(errno));
  const int64_t wanted = first_bytes < 0 ? size : std::min(size, first_bytes);
  std::string bytes(static_cast<size_t>(wanted), '\0');
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), handle.get());
  if (got != bytes.size()) fail(file, fmt::format("read {} of {} bytes", got, wanted));
  return bytes;
}

FileCalls::FileCalls()
    : write(::write),
      fsync(::fsync),
      close(::close),
      rename(std::rename),
      free_bytes([](const fs::path& folder) -> int64_t {
        struct statvfs info {};
        if (::statvfs(folder.c_str(), &info) != 0) return -1;
        return static_cast<int64_t>(std::min<uint64_t>(info.f_bavail, INT64_MAX / info.f_frsize) * info.f_frsize);
      }) {}

void write_file(const fs::path& file, std::span<const char> bytes, const WriteOptions& options) {
  write_file(
      file, [&](const ByteSink& sink) { sink(std::as_bytes(bytes)); }, options);
}

void write_file(const fs::path& file, const std::function<void(const ByteSink&)>& produce,
                const WriteOptions& options) {
  std::error_code error;
  const fs::file_status there = fs::status(file, error);
  // A link stays one.
  const fs::path target = fs::is_regular_file(there) && fs::is_symlink(file) ? fs::canonical(file) : file;
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  fs::create_directories(folder, error);
  if (error) throw WriteError(file.string() + ": cannot make its folder: " + error.message());
  const FileCalls real;
  const FileCalls& calls = options.calls != nullptr ? *options.calls : real;
  if (fs::is_character_file(there) || fs::is_fifo(there)) return write_through(target, produce, calls);
  const size_t thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
  TemporaryFile temporary(options.temporary.empty()
                              ? fs::path(target.string() + fmt::format(".tmp.{}.{:x}", ::getpid(), thread))
                              : options.temporary,
                          target, calls);
  produce([&](std::span<const std::byte> bytes) { temporary.write(bytes); });
  if (options.durable) temporary.flush();
  temporary.take_final_name();
  if (options.durable) flush_folder(folder, calls);
}

}  // namespace gradlibra
