// SPDX-License-Identifier: MIT
#include "engine/work_dir.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/distributed/launch.h"

namespace gradlibra {

namespace {

namespace fs = std::filesystem;

std::string owner() {
  return fmt::format("process {} on {} since {:%Y-%m-%d %H:%M:%S}", ::getpid(), host_name(),
                     fmt::localtime(std::time(nullptr)));
}

// "": ok. The first part of a path that is there but no folder, for a message.
std::string file_in_the_way(const fs::path& path) {
  fs::path part;
  for (const fs::path& name : path) {
    part /= name;
    std::error_code ignored;
    if (fs::exists(part, ignored) && !fs::is_directory(part, ignored)) return part.string() + " is a file";
  }
  return "";
}

}  // namespace

WorkDir::WorkDir(fs::path path, const std::string& option) : path_(std::move(path)) {
  if (path_.empty()) throw std::runtime_error(option + " is empty; name a folder");
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error(fmt::format("{} {}: {}", option, path_.string(), why));
  };
  std::error_code error;
  fs::create_directories(path_, error);
  if (const std::string file = file_in_the_way(path_); !file.empty()) refuse(file + ", not a folder");
  if (error) refuse("cannot make the folder: " + error.message());
  const fs::path file = path_ / "lock";
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) refuse(fmt::format("cannot write in this folder: {}", std::strerror(errno)));
  int locked = 0;
  do {
    locked = ::flock(lock_, LOCK_EX | LOCK_NB);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0 && errno == EWOULDBLOCK) {
    std::array<char, 512> text{};
    const ssize_t got = ::pread(lock_, text.data(), text.size() - 1, 0);
    ::close(lock_);
    lock_ = -1;
    refuse(fmt::format("in use by {}; wait until it ends, stop it, or choose another folder",
                       got > 0 ? text.data() : "another process"));
  }
  if (locked != 0) {
    warning_ = fmt::format("{}: this file system has no locks ({}): take care that no second process writes here",
                           path_.string(), std::strerror(errno));
    return;
  }
  const std::string text = owner();
  if (::ftruncate(lock_, 0) != 0 || ::pwrite(lock_, text.data(), text.size(), 0) < 0) {
    // Only the name of the owner is missing then.
  }
}

WorkDir::~WorkDir() {
  if (lock_ >= 0) ::close(lock_);  // and unlocks; the file stays: to remove it would let two owners in
}

bool is_in_use(const fs::path& folder) {
  const int lock = ::open((folder / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (lock < 0) return false;
  const bool held = ::flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(lock);
  return held;
}

RunLog::RunLog(fs::path file) : file_(std::move(file)) {
  if (!open()) throw WriteError(file_failure("cannot write", file_, error_));
}

bool RunLog::open() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  struct stat info {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) {
    error_ = errno;
    return false;
  }
  size_ = info.st_size;
  torn_ = false;
  return true;
}

RunLog::~RunLog() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool RunLog::write_whole(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(descriptor_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      error_ = written < 0 ? errno : ENOSPC;
      if (done > 0 && ::ftruncate(descriptor_, size_) != 0) torn_ = true;
      return false;
    }
    done += static_cast<size_t>(written);
  }
  size_ += static_cast<int64_t>(text.size());
  return true;
}

std::string RunLog::add(const std::string& line) {
  const bool failed_before = error_ != 0;
  waiting_.push_back(line + "\n");
  if (waiting_.size() > kMostWaiting) {
    waiting_.pop_front();
    ++lost_;
  }
  // Into a file without a name every line would be written, and be lost.
  struct stat info {};
  const bool deleted = descriptor_ >= 0 && ::fstat(descriptor_, &info) == 0 && info.st_nlink == 0;
  if ((deleted || descriptor_ < 0) && !open())
    return failed_before ? ""
                         : file_failure("cannot write", file_, error_) + "; lines wait in memory until there is room";
  // A part that could not be taken away becomes a line of its own: broken, but joined to no other.
  if (torn_ && write_whole("\n")) torn_ = false;
  while (!torn_ && !waiting_.empty() && write_whole(waiting_.front())) waiting_.pop_front();
  const bool fails = !waiting_.empty();
  if (fails && !failed_before)
    return file_failure("cannot write", file_, error_) + "; lines wait in memory until there is room";
  if (!fails && deleted) return file_.string() + ": was deleted, with the lines before; a new one begins";
  if (fails || !failed_before) return "";
  error_ = 0;
  return fmt::format("{}: can be written again, {} lines were lost", file_.string(), lost_);
}

int64_t cut_log(const fs::path& log, int64_t step, int64_t validated) {
  std::ifstream stream(log, std::ios::binary);
  if (!stream) return 0;
  int64_t kept_bytes = 0, cut = 0;
  std::string behind;
  for (std::string line; std::getline(stream, line);) {
    const bool whole = !stream.eof();  // has its line end
    if (cut == 0 && whole) {
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      const bool known = json.is_object() && json.contains("step") && json["step"].is_number_integer();
      const bool later = known && (json["step"].get<int64_t>() > step ||
                                   (json.contains("val_map50") && json.value("epoch", int64_t{0}) > validated));
      if (known && !later) {
        kept_bytes += static_cast<int64_t>(line.size()) + 1;
        continue;
      }
    }
    ++cut;
    behind += line + "\n";
  }
  if (cut == 0) return 0;
  const fs::path aside = log.parent_path() / "log.cut.jsonl";
  std::ofstream out(aside, std::ios::binary | std::ios::app);
  if (!(out << behind << std::flush))
    throw WriteError(file_failure("cannot put the log's lines behind the checkpoint into", aside, errno));
  if (::truncate(log.c_str(), kept_bytes) != 0) throw WriteError(file_failure("cannot cut", log, errno));
  return cut;
}

}  // namespace gradlibra
