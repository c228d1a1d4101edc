// SPDX-License-Identifier: MIT
#include "runtime/distributed/deadline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <utility>

namespace gradlibra {

Deadline::Deadline(double seconds, std::function<void()> over)
    : thread_([this, seconds, over = std::move(over)] { wait(seconds, over); }) {}

Deadline::~Deadline() {
  {
    const std::lock_guard lock(mutex_);
    off_ = true;
  }
  called_off_.notify_all();
  thread_.join();
}

// In short waits, of which each counts as much as it was meant to last, however long the process was suspended in it.
void Deadline::wait(double seconds, const std::function<void()>& over) {
  const auto waits = std::max<int64_t>(10, std::llround(seconds));
  const double each = seconds / static_cast<double>(waits);
  std::unique_lock lock(mutex_);
  for (int64_t i = 0; i < waits; ++i)
    if (called_off_.wait_for(lock, std::chrono::duration<double>(each), [this] { return off_; })) return;
  lock.unlock();
  over();
}

}  // namespace gradlibra
