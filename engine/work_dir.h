// SPDX-License-Identifier: MIT
// The folder of a run, or of what else a program writes: one owner at a time; and a log that tells of each step once.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>

namespace gradlibra {

// Holds a folder for as long as it lives. The lock is the kernel's, on the file `lock`: it goes with the process,
// however that ends.
class WorkDir {
 public:
  // Makes the folder and takes it. std::runtime_error says in plain words why that cannot be: it is a file, may not be
  // written to, or another process (named) has it. `option` is where the path comes from, for the message.
  explicit WorkDir(std::filesystem::path path, const std::string& option = "--work-dir");
  ~WorkDir();
  WorkDir(const WorkDir&) = delete;
  WorkDir& operator=(const WorkDir&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  // Empty, or why nothing keeps a second process out: file systems without locks.
  [[nodiscard]] const std::string& warning() const { return warning_; }

 private:
  std::filesystem::path path_;
  std::string warning_;
  int lock_ = -1;
};

// Whether a WorkDir of any process holds the folder now. False where it, or its file system's locks, are not there.
[[nodiscard]] bool is_in_use(const std::filesystem::path& folder);

// Appends lines to a file, each whole or not at all. What a full disk does not take waits in memory for the next line.
class RunLog {
 public:
  // WriteError names the file if it cannot be opened.
  explicit RunLog(std::filesystem::path file);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  // Never throws for what the file system does. A sentence when writing has begun to fail or works again, or the file
  // was deleted; else empty.
  [[nodiscard]] std::string add(const std::string& line);
  // Lines that are not in the file: waiting, or given up because too many were.
  [[nodiscard]] int64_t missing() const { return static_cast<int64_t>(waiting_.size()) + lost_; }

 private:
  static constexpr size_t kMostWaiting = 100'000;
  bool write_whole(const std::string& text);
  // Opens the file, also where it was deleted while open. False: not possible now.
  bool open();

  std::filesystem::path file_;
  int descriptor_ = -1;
  int64_t size_ = 0;   // of the whole lines
  bool torn_ = false;  // behind them is a part of a line that could not be taken away
  std::deque<std::string> waiting_;
  int64_t lost_ = 0;
  int error_ = 0;  // an errno, while writing fails
};

// Cuts a log back to where a checkpoint stands, so that a resumed run writes no step twice: from the first line on that
// is of a later step than `step` or of a validation of a later epoch than `validated`, and a last line without its end.
// What is cut is appended to `log.cut.jsonl` beside it. A line that cannot be read costs none of those behind it, which
// a reader of the log would take: it stays. `say` is told what was cut and what was passed over. Returns the number of
// lines cut; WriteError if they cannot be put there.
int64_t cut_log(const std::filesystem::path& log, int64_t step, int64_t validated,
                const std::function<void(const std::string&)>& say = {});

}  // namespace gradlibra
