// SPDX-License-Identifier: MIT
#include "engine/scan/scan_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <string_view>

#include "engine/scan/rename_to_kept.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMaxBytes = 16LL << 30;
constexpr std::chrono::seconds kSyncEvery{5};

// The last member of a line's object: a hash of the text before it.
std::string sum_of(std::string_view text) {
  return fmt::format(",\"xxh64\":\"{}\"}}", xxh64_hex(std::as_bytes(std::span(text))));
}

// One digit that is another still gives a number, which would go into the results without a word.
bool is_intact(std::string_view line) {
  static const size_t sum = sum_of("").size();
  if (line.size() < sum) return false;
  const std::string_view text = line.substr(0, line.size() - sum);
  return line.substr(text.size()) == sum_of(text);
}

std::string line_of(int64_t from, const ScanEntry& entry) {
  Json list = Json::array();
  for (const Detection& d : entry.found) list.push_back({d.label, d.score, d.box.x1, d.box.y1, d.box.x2, d.box.y2});
  const Json object{
      {"from", from}, {"next", entry.next}, {"empty", entry.empty}, {"full", entry.full}, {"found", std::move(list)}};
  std::string text = object.dump();
  text.pop_back();  // the bracket, before which the sum goes
  return text + sum_of(text) + "\n";
}

void take(const ScanEntry& entry, ScanProgress& progress) {
  progress.done = entry.next;
  progress.empty += entry.empty;
  progress.full += entry.full;
  progress.found.insert(progress.found.end(), entry.found.begin(), entry.found.end());
}

bool within(const Detection& d, const ScanBounds& bounds) {
  const Box& b = d.box;
  return d.label >= 0 && d.label < bounds.classes && d.score >= 0 && d.score <= 1 && b.x1 >= 0 && b.x1 <= b.x2 &&
         b.x2 <= static_cast<float>(bounds.width) && b.y1 >= 0 && b.y1 <= b.y2 &&
         b.y2 <= static_cast<float>(bounds.height);
}

// Throws for a line that is none of ours, or does not follow what there is.
ScanEntry entry_of(std::string_view text, const ScanBounds& bounds, const ScanProgress& progress) {
  if (!is_intact(text)) throw std::runtime_error("is damaged");
  const Json line = parse_json<Json>(text);
  ScanEntry entry{.next = line.at("next").get<int64_t>(),
                  .empty = line.at("empty").get<int64_t>(),
                  .full = line.at("full").get<int64_t>(),
                  .found = {}};
  if (line.at("from").get<int64_t>() != progress.done || entry.next <= progress.done || entry.next > progress.tiles)
    throw std::out_of_range("tiles");
  if (entry.empty < 0 || entry.full < 0 || entry.empty + entry.full > entry.next - progress.done)
    throw std::out_of_range("counts of tiles");
  for (const Json& d : line.at("found")) {
    entry.found.push_back({{d.at(2).get<float>(), d.at(3).get<float>(), d.at(4).get<float>(), d.at(5).get<float>()},
                           d.at(0).get<int>(),
                           d.at(1).get<double>()});
    if (!within(entry.found.back(), bounds)) throw std::out_of_range("detection");
  }
  return entry;
}

}  // namespace

ScanJournal::ScanJournal(fs::path file, Json of, const ScanBounds& bounds, ScanProgress& progress,
                         std::function<void(const std::string&)> say)
    : file_(std::move(file)), of_(std::move(of)), say_(std::move(say)), synced_(std::chrono::steady_clock::now()) {
  read(bounds, progress);
  if (!open()) throw WriteError(file_failure("cannot write", file_, errno));
}

ScanJournal::~ScanJournal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ScanJournal::read(const ScanBounds& bounds, ScanProgress& progress) {
  std::error_code error;
  const bool there = fs::exists(fs::symlink_status(file_, error));
  if (error && error != std::errc::no_such_file_or_directory)
    throw ReadError(file_.string() + ": cannot be looked at: " + error.message());
  const std::string text = there ? read_file(file_, kMaxBytes) : "";
  bool ours = false;
  int64_t passed_over = 0;  // lines since the last one that went on: others before it cost nothing
  size_t begin = 0;
  for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    try {
      if (ours) {
        take(entry_of(line, bounds, progress), progress);
        passed_over = 0;
      } else if (parse_json<Json>(line).at("of") == of_) {
        ours = true;
      } else {
        break;
      }
    } catch (const std::exception&) {
      if (!ours) break;
      ++passed_over;
    }
  }
  if (ours) {
    if (begin < text.size()) waiting_ = "\n";  // a line was being written: it becomes one of its own
    if (passed_over > 0 && progress.done < progress.tiles)
      say_(
          fmt::format("{}: is damaged, or of an earlier version, behind tile {} of {}: those tiles are looked at again",
                      file_.string(), progress.done, progress.tiles));
    return;
  }
  if (there)
    say_(fmt::format("{}: begins as no scan's: it is kept as {}", file_.string(),
                     rename_to_kept(file_).filename().string()));
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
