// SPDX-License-Identifier: MIT
// What the time to the end is computed from, and how it reads.
#include "engine/progress.h"

#include <gtest/gtest.h>

namespace gradlibra {
namespace {

TEST(RunningMedian, OneSlowStepDoesNotMoveIt) {
  RunningMedian seconds;
  EXPECT_EQ(seconds.value(), 0) << "nothing yet";
  seconds.add(100);  // the first step makes plans and reads the disk
  EXPECT_EQ(seconds.value(), 100);
  for (int i = 0; i < 4; ++i) seconds.add(0.25);
  EXPECT_EQ(seconds.value(), 0.25);
  for (int i = 0; i < 40; ++i) {
    seconds.add(0.25);
    if (i % 4 == 0) seconds.add(1000);
    EXPECT_EQ(seconds.value(), 0.25) << i;
  }
}

TEST(RunningMedian, FollowsWhatHasChangedForGood) {
  RunningMedian seconds(5);
  for (int i = 0; i < 100; ++i) seconds.add(1);
  for (int i = 0; i < 2; ++i) seconds.add(3);
  EXPECT_EQ(seconds.value(), 1);
  seconds.add(3);
  EXPECT_EQ(seconds.value(), 3) << "three of the last five";
  for (int i = 0; i < 5; ++i) seconds.add(i);
  EXPECT_EQ(seconds.value(), 2);
}

TEST(DurationText, IsReadAtAGlance) {
  EXPECT_EQ(duration_text(0), "0:00");
  EXPECT_EQ(duration_text(-3), "0:00");
  EXPECT_EQ(duration_text(59.4), "0:59");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(249), "4:09");
  EXPECT_EQ(duration_text(3599.7), "1:00:00");
  EXPECT_EQ(duration_text(3725), "1:02:05");
  EXPECT_EQ(duration_text(90000), "25:00:00");
}

}  // namespace
}  // namespace gradlibra
