// SPDX-License-Identifier: MIT
#include "runtime/distributed/deadline.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>

namespace gradlibra {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Deadline, IsToldOnceWhenItIsOver) {
  std::promise<void> told;
  const Clock::time_point start = Clock::now();
  const Deadline deadline(0.2, [&] { told.set_value(); });  // a second time would throw
  ASSERT_EQ(told.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(190));
}

TEST(Deadline, IsCalledOffAtOnce) {
  const Clock::time_point start = Clock::now();
  {
    const Deadline deadline(3600, [] { ADD_FAILURE() << "not over"; });
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace gradlibra
