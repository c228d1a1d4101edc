// SPDX-License-Identifier: MIT
#include "engine/scan/scan_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "runtime/base/files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMaxBytes = 16LL << 30;
constexpr std::chrono::seconds kSyncEvery{5};

std::string line_of(int64_t from, const ScanEntry& entry) {
  Json list = Json::array();
  for (const Detection& d : entry.found) list.push_back({d.label, d.score, d.box.x1, d.box.y1, d.box.x2, d.box.y2});
  return Json{{"from", from},
              {"next", entry.next},
              {"empty", entry.empty},
              {"full", entry.full},
              {"found", std::move(list)}}
             .dump() +
         "\n";
}

void take(const ScanEntry& entry, ScanProgress& progress) {
  progress.done = entry.next;
  progress.empty += entry.empty;
  progress.full += entry.full;
  progress.found.insert(progress.found.end(), entry.found.begin(), entry.found.end());
}

// Throws for a line that is none of ours, or does not follow what there is.
ScanEntry entry_of(const Json& line, int classes, const ScanProgress& progress) {
  ScanEntry entry{.next = line.at("next").get<int64_t>(),
                  .empty = line.at("empty").get<int64_t>(),
                  .full = line.at("full").get<int64_t>(),
                  .found = {}};
  if (line.at("from").get<int64_t>() != progress.done || entry.next <= progress.done || entry.next > progress.tiles)
    throw std::out_of_range("tiles");
  for (const Json& d : line.at("found")) {
    entry.found.push_back({{d.at(2).get<float>(), d.at(3).get<float>(), d.at(4).get<float>(), d.at(5).get<float>()},
                           d.at(0).get<int>(),
                           d.at(1).get<double>()});
    if (entry.found.back().label < 0 || entry.found.back().label >= classes) throw std::out_of_range("label");
  }
  return entry;
}

}  // namespace

ScanJournal::ScanJournal(fs::path file, Json of, int classes, ScanProgress& progress,
                         std::function<void(const std::string&)> say)
    : file_(std::move(file)), of_(std::move(of)), say_(std::move(say)), synced_(std::chrono::steady_clock::now()) {
  read(classes, progress);
  if (!open()) throw WriteError(file_failure("cannot write", file_, errno));
}

ScanJournal::~ScanJournal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ScanJournal::read(int classes, ScanProgress& progress) {
  std::error_code error;
  const bool there = fs::exists(fs::symlink_status(file_, error));
  if (error && error != std::errc::no_such_file_or_directory)
    throw ReadError(file_.string() + ": cannot be looked at: " + error.message());
  const std::string text = there ? read_file(file_, kMaxBytes) : "";
  bool ours = false;
  size_t begin = 0;
  for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    try {
      const Json line =
          Json::parse(text.begin() + static_cast<int64_t>(begin), text.begin() + static_cast<int64_t>(end));
      if (ours)
        take(entry_of(line, classes, progress), progress);
      else if (line.at("of") == of_)
        ours = true;
      else
        break;
    } catch (const std::exception&) {
      if (!ours) break;
    }
  }
  if (ours) {
    if (begin < text.size()) waiting_ = "\n";  // a line was being written: it becomes one of its own
    return;
  }
  if (there) {
    const fs::path aside = file_.string() + ".kept";
    fs::rename(file_, aside, error);
    if (error)
      throw WriteError(fmt::format("{}: is in the way, and cannot be renamed: {}", file_.string(), error.message()));
    say_(fmt::format("{}: begins as no scan's: it is kept as {}", file_.string(), aside.filename().string()));
  }
  this->begin(Json{{"of", of_}}.dump() + "\n");
}

void ScanJournal::begin(const std::string& text) {
  write_file(file_, text, WriteOptions{.durable = true, .temporary = {}});
}

bool ScanJournal::open() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  return descriptor_ >= 0;
}

// Whether what is written goes to the file of that name: it may have been deleted, or moved.
bool ScanJournal::is_there() const {
  struct stat open {
  }, named{};
  return descriptor_ >= 0 && ::fstat(descriptor_, &open) == 0 && ::stat(file_.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

bool ScanJournal::flush() {
  struct stat info {};
  if (!is_there() || ::fstat(descriptor_, &info) != 0) {
    if (error_ == 0) error_ = ENOENT;
    return false;
  }
  size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t written = ::write(descriptor_, waiting_.data() + done, waiting_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = written < 0 ? errno : ENOSPC;
      // A part of a line that cannot be taken away is passed over by whoever reads it.
      if (done > 0 && ::ftruncate(descriptor_, info.st_size) != 0) waiting_.insert(0, "\n");
      error_ = error;
      return false;
    }
    done += static_cast<size_t>(written);
  }
  waiting_.clear();
  waiting_tiles_ = 0;
  return true;
}

// All of it in two lines, on the disk; false: that is not possible now.
bool ScanJournal::write_anew(const ScanProgress& progress) {
  std::string text = Json{{"of", of_}}.dump() + "\n";
  if (progress.done > 0) text += line_of(0, {progress.done, progress.empty, progress.full, progress.found});
  try {
    begin(text);
  } catch (const WriteError& error) {
    if (!failing_) say_(error.what());
    failing_ = true;
    return false;
  }
  waiting_.clear();
  waiting_tiles_ = 0;
  return open();
}

// What a failed call has not brought to the disk may be lost, whatever a second one says: all is written again.
bool ScanJournal::sync(const ScanProgress& progress) {
  synced_ = std::chrono::steady_clock::now();
  if (::fdatasync(descriptor_) == 0 || errno == EINVAL || errno == EROFS) return true;
  if (!failing_) say_(file_failure("cannot write", file_, errno));
  if (write_anew(progress)) return true;
  waiting_tiles_ = progress.done;
  return false;
}

void ScanJournal::add(const ScanEntry& entry, ScanProgress& progress) {
  error_ = 0;
  if (!is_there()) {
    if (!failing_) say_(file_.string() + ": was deleted or moved; it is written anew");
    if (!write_anew(progress)) waiting_tiles_ = progress.done;
  }
  waiting_ += line_of(progress.done, entry);
  waiting_tiles_ += entry.next - progress.done;
  take(entry, progress);
  bool failed = !flush();
  if (failed && !failing_) say_(file_failure("cannot write", file_, error_) + "; what is missing waits in memory");
  if (!failed && std::chrono::steady_clock::now() - synced_ >= kSyncEvery) failed = !sync(progress);
  if (!failed && failing_) say_(file_.string() + ": can be written again, nothing is missing");
  failing_ = failed;
}

int64_t ScanJournal::close(const ScanProgress& progress) {
  error_ = 0;
  if (flush() ? sync(progress) : write_anew(progress)) return 0;
  return std::max<int64_t>(waiting_tiles_, 1);
}

}  // namespace gradlibra
