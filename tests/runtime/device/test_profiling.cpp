// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "runtime/device/context.h"
#include "runtime/device/profiling.h"
#include "runtime/device/timer.h"

namespace gradlibra {
namespace {

TEST(Profiling, RangesNestAndPassResultsAndExceptions) {
  const Range outer("outer");
  int value = 7;
  int& same = profiled("inner", [&]() -> int& { return value; });
  EXPECT_EQ(&same, &value);
  EXPECT_THROW(profiled("failing", [] { throw std::runtime_error("of the body"); }), std::runtime_error);
}

TEST(Profiling, RecordingOnTheHostIsNothing) {
  Context context(1);
  profiler_start(context);
  profiler_stop(context);
}

TEST(Timer, MeasuresFromTheLastStart) {
  Cpu cpu(1);
  const std::unique_ptr<Timer> timer = make_timer(cpu);
  timer->start();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(timer->stop(), 0.02);
  EXPECT_GE(timer->stop(), 0.02);  // reading does not stop it
  timer->start();
  EXPECT_GE(timer->stop(), 0);
}

}  // namespace
}  // namespace gradlibra
