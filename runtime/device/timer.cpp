// SPDX-License-Identifier: MIT
#include "runtime/device/timer.h"

#include <chrono>

namespace gradlibra {

namespace {

class ClockTimer final : public Timer {
 public:
  void start() override { start_ = Clock::now(); }
  double stop() override { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

std::unique_ptr<Timer> make_timer(Cpu&) { return std::make_unique<ClockTimer>(); }

}  // namespace gradlibra
