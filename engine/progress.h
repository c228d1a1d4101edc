// SPDX-License-Identifier: MIT
// How far along a program is, for the person who waits.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace gradlibra {

// "1:02:05" or "4:09".
[[nodiscard]] std::string duration_text(double seconds);

// The median of the last values: one step that waited for a disk does not move it.
class RunningMedian {
 public:
  explicit RunningMedian(size_t window = 101) : window_(window) {}
  void add(double value);
  [[nodiscard]] double value() const;  // 0 before the first

 private:
  size_t window_;
  std::deque<double> values_;
};

// Progress on stderr: on a terminal one line that is written over, else a line every half minute.
class Progress {
 public:
  // what: of what there are `total`, "images".
  Progress(std::string what, int64_t total);
  ~Progress();
  void show(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  int64_t total_, done_ = 0;
  bool terminal_, line_open_ = false;
  Clock::time_point last_step_, last_shown_;
  RunningMedian seconds_each_;
};

}  // namespace gradlibra
