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
#include <optional>

#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
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

enum class LogLine { kept, later, unreadable };

LogLine kind_of(const std::string& text, int64_t step, int64_t validated) {
  if (text.empty()) return LogLine::kept;
  const auto line = parse_json_or_discard(text);
  const auto whole = [&](const char* key) -> std::optional<int64_t> {
    const auto found = line.find(key);
    return found == line.end() || !found->is_number_integer() ? std::nullopt : std::optional(found->get<int64_t>());
  };
  const std::optional<int64_t> at = line.is_object() ? whole("step") : std::nullopt;
  if (!at) return LogLine::unreadable;
  const bool later = *at > step || (line.contains("val_map50") && whole("epoch").value_or(0) > validated);
  return later ? LogLine::later : LogLine::kept;
}

std::string lines(int64_t count) { return fmt::format("{} line{}", count, count == 1 ? "" : "s"); }

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

int64_t cut_log(const fs::path& log, int64_t step, int64_t validated,
                const std::function<void(const std::string&)>& say) {
  std::ifstream stream(log, std::ios::binary);
  if (!stream) return 0;
  int64_t number = 0, kept_bytes = 0, cut = 0, first_cut = 0, unreadable = 0, first_unreadable = 0;
  bool torn = false;  // what is cut is but a line without its end
  std::string behind;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    const bool whole = !stream.eof();  // has its line end
    if (cut == 0 && whole) {
      const LogLine kind = kind_of(line, step, validated);
      if (kind == LogLine::unreadable && unreadable++ == 0) first_unreadable = number;
      if (kind != LogLine::later) {
        kept_bytes += static_cast<int64_t>(line.size()) + 1;
        continue;
      }
    }
    if (cut++ == 0) {
      first_cut = number;
      torn = !whole;
    }
    behind += line + "\n";
  }
  const auto tell = [&](const std::string& text) {
    if (say) say(text);
  };
  if (unreadable > 0)
    tell(fmt::format("log: {} of {} cannot be read (the first is line {}); {} passed over", lines(unreadable),
                     log.filename().string(), first_unreadable, unreadable == 1 ? "it is" : "they are"));
  if (cut == 0) return 0;
  const fs::path aside = log.parent_path() / "log.cut.jsonl";
  std::ofstream out(aside, std::ios::binary | std::ios::app);
  if (!(out << behind << std::flush))
    throw WriteError(file_failure("cannot put the log's lines behind the checkpoint into", aside, errno));
  if (::truncate(log.c_str(), kept_bytes) != 0) throw WriteError(file_failure("cannot cut", log, errno));
  tell(torn
           ? fmt::format("log: line {}, the last and without its end, moved from log.jsonl to log.cut.jsonl", first_cut)
           : fmt::format("log: {} from line {} on, behind step {}, moved from log.jsonl to log.cut.jsonl", lines(cut),
                         first_cut, step));
  return cut;
}

}  // namespace gradlibra
