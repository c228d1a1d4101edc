// SPDX-License-Identifier: MIT
#include "engine/scan/scan_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

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
  const std::string text = fs::exists(file_, error) ? read_file(file_, kMaxBytes) : "";
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
  if (!ours) return this->begin(Json{{"of", of_}}.dump() + "\n");
  if (begin < text.size()) waiting_ = "\n";  // a line was being written: it becomes one of its own
}

void ScanJournal::begin(const std::string& text) {
  write_file(file_, text, WriteOptions{.durable = true, .temporary = {}});
}

bool ScanJournal::open() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  return descriptor_ >= 0;
}

bool ScanJournal::flush() {
  struct stat info {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) return false;
  if (info.st_nlink == 0) {  // into a file without a name
    errno = ENOENT;
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
      errno = error;
      return false;
    }
    done += static_cast<size_t>(written);
  }
  waiting_.clear();
  waiting_tiles_ = 0;
  return true;
}

// All of it in two lines.
void ScanJournal::write_anew(const ScanProgress& progress) {
  std::string text = Json{{"of", of_}}.dump() + "\n";
  if (progress.done > 0) text += line_of(0, {progress.done, progress.empty, progress.full, progress.found});
  begin(text);
  waiting_.clear();
  waiting_tiles_ = 0;
  open();
}

void ScanJournal::add(const ScanEntry& entry, ScanProgress& progress) {
  struct stat info {};
  if (descriptor_ >= 0 && ::fstat(descriptor_, &info) == 0 && info.st_nlink == 0) {
    if (!failing_) say_(file_.string() + ": was deleted; it is written anew");
    try {
      write_anew(progress);
    } catch (const WriteError&) {
      waiting_tiles_ = progress.done;
    }
  }
  waiting_ += line_of(progress.done, entry);
  waiting_tiles_ += entry.next - progress.done;
  take(entry, progress);
  const bool failed = !flush();
  if (failed && !failing_) say_(file_failure("cannot write", file_, errno) + "; what is missing waits in memory");
  if (!failed && failing_) say_(file_.string() + ": can be written again, nothing is missing");
  failing_ = failed;
  const auto now = std::chrono::steady_clock::now();
  if (failed || now - synced_ < kSyncEvery) return;
  (void)::fdatasync(descriptor_);
  synced_ = now;
}

int64_t ScanJournal::close(const ScanProgress& progress) {
  if (!flush()) {
    // The file may be at fault, not the disk.
    try {
      write_anew(progress);
    } catch (const WriteError&) {
      return waiting_tiles_;
    }
  }
  (void)::fdatasync(descriptor_);
  return 0;
}

}  // namespace gradlibra
