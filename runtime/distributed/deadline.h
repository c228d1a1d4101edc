// SPDX-License-Identifier: MIT
// For what may never return and that nothing else watches: MPI's own start and end, say.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace gradlibra {

class Deadline {
 public:
  // Calls `over` once, on a thread of its own, if this still lives after `seconds`. Time in which the process stood
  // still does not count.
  Deadline(double seconds, std::function<void()> over);
  // Calls it off; waits for `over` if it has begun.
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  void wait(double seconds, const std::function<void()>& over);

  std::mutex mutex_;
  std::condition_variable called_off_;
  bool off_ = false;
  std::thread thread_;
};

}  // namespace gradlibra
