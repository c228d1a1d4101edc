// SPDX-License-Identifier: MIT
#include "engine/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace gradlibra {

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

void RunningMedian::add(double value) {
  values_.push_back(value);
  if (values_.size() > window_) values_.pop_front();
}

double RunningMedian::value() const {
  if (values_.empty()) return 0;
  std::vector<double> sorted(values_.begin(), values_.end());
  const auto middle = sorted.begin() + static_cast<int64_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

Progress::Progress(std::string what, int64_t total)
    : what_(std::move(what)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) != 0),
      last_step_(Clock::now()),
      last_shown_(last_step_) {}

Progress::~Progress() {
  if (line_open_) std::fputs("\n", stderr);
}

void Progress::show(int64_t done) {
  const Clock::time_point now = Clock::now();
  const auto seconds = [&](Clock::time_point since) { return std::chrono::duration<double>(now - since).count(); };
  if (done > done_) seconds_each_.add(seconds(last_step_) / static_cast<double>(done - done_));
  done_ = done;
  last_step_ = now;
  if (done < total_ && seconds(last_shown_) < (terminal_ ? 0.1 : 30)) return;
  if (done == total_ && !line_open_ && !terminal_) return;  // over before there was anything to say
  last_shown_ = now;
  const std::string text = fmt::format("{}/{} {}, eta {}", done, total_, what_,
                                       duration_text(seconds_each_.value() * static_cast<double>(total_ - done)));
  // A terminal that is gone ends no work: fmt::print() would throw.
  std::fputs(((terminal_ ? "\r" : "") + text + (terminal_ ? "\033[K" : "\n")).c_str(), stderr);
  std::fflush(stderr);
  line_open_ = terminal_;
}

}  // namespace gradlibra
