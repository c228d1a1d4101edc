// SPDX-License-Identifier: MIT
// Whole files in and out of memory: a size cap on reading, a temporary file and a rename on writing.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>

namespace gradlibra {

// The file system did not give a file's bytes. It may later: a folder on the network comes back. What is wrong with the
// bytes themselves is no such error.
struct ReadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The file system did not take a file; the message says which and why, and where it helps what to do.
struct WriteError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The file's bytes. ReadError names the file and why: missing, not a regular file (a pipe or device could block or
// never end), not readable; std::runtime_error if it is larger than `max_bytes`. At most `first_bytes` of it when that
// is not negative.
[[nodiscard]] std::string read_file(const std::filesystem::path& file, int64_t max_bytes, int64_t first_bytes = -1);

// The system calls that can fail while writing, so that a test can make them fail. Each behaves as the call of its
// name.
struct FileCalls {
  std::function<ssize_t(int, const void*, size_t)> write;
  std::function<int(int)> fsync;
  std::function<int(int)> close;
  std::function<int(const char*, const char*)> rename;
  std::function<int64_t(const std::filesystem::path&)> free_bytes;  // for this user in this folder; -1: not known
  FileCalls();                                                      // the real ones
};

struct WriteOptions {
  // The bytes and their name are on the disk on return: they outlive a power cut. After Pillai et al., "All File
  // Systems Are Not Created Equal" (OSDI 2014): write a temporary file, fsync it, rename it, fsync the folder.
  bool durable = false;
  // Beside the file, under a lock while it is written; empty: a name that no other thread or process takes.
  std::filesystem::path temporary = {};
  const FileCalls* calls = nullptr;  // nullptr: the real ones
};

// Writes beside `file` and renames over it, so that no reader sees half a file. Missing folders are made. Several
// threads may write at a time, also the same file: the last one wins. After a WriteError what was there is still there.
// A link to a file stays one; a device or a pipe is written to.
void write_file(const std::filesystem::path& file, std::span<const char> bytes, const WriteOptions& options = {});

// The same for content that is made piece by piece: `produce` calls its argument with each.
using ByteSink = std::function<void(std::span<const std::byte>)>;
void write_file(const std::filesystem::path& file, const std::function<void(const ByteSink&)>& produce,
                const WriteOptions& options = {});

// Renames NAME.EXT to the first of NAME.1.EXT, NAME.2.EXT, .. that is free, and returns it.
std::filesystem::path move_aside(const std::filesystem::path& file);

// "what path: reason", with what to do where the reason is a full disk, a quota or a limit. `error` is an errno.
[[nodiscard]] std::string file_failure(const std::string& what, const std::filesystem::path& path, int error);

}  // namespace gradlibra
