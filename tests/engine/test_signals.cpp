// SPDX-License-Identifier: MIT
// What a second signal does to a process that is on its way out.
#include "engine/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace gradlibra {
namespace {

constexpr int kDone = 7;  // both signals were borne

// How a process ends that gets `first`, and `second` behind the time in which the same event is told twice.
int code_of(int first, int second, bool on_its_way_out = false) {
  const pid_t child = ::fork();
  if (child == 0) {
    const std::atomic<int>& caught = catch_signals();
    ::raise(first);
    if (on_its_way_out) leave_only_to_who_insists();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::raise(second);
    ::_exit(caught.load() == first ? kDone : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Signals, WhoAsksTwiceIsNotKeptWaiting) {
  EXPECT_EQ(code_of(SIGINT, SIGINT), 128 + SIGINT);
  EXPECT_EQ(code_of(SIGTERM, SIGTERM), 128 + SIGTERM);
  EXPECT_EQ(code_of(SIGUSR1, SIGUSR1), 128 + SIGUSR1);
  EXPECT_EQ(code_of(SIGTERM, SIGPIPE), kDone);
}

// A time limit, told two minutes before it by SIGUSR1.
TEST(Signals, ASchedulersSecondSignalTearsNoCheckpoint) {
  EXPECT_EQ(code_of(SIGUSR1, SIGTERM), kDone);
  EXPECT_EQ(code_of(SIGUSR1, SIGINT), 128 + SIGINT);
}

TEST(Signals, RanksOnTheirWayOutHearOnlyWhoInsists) {
  EXPECT_EQ(code_of(SIGTERM, SIGTERM, true), kDone);
  EXPECT_EQ(code_of(SIGUSR1, SIGUSR1, true), kDone);
  EXPECT_EQ(code_of(SIGTERM, SIGINT, true), 128 + SIGINT);
}

}  // namespace
}  // namespace gradlibra
