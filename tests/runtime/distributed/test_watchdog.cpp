// SPDX-License-Identifier: MIT
// The watchdog of ranks that are threads: an orderly end, failures and silence. tests/apps/test_train_ranks.cpp kills
// and stops processes.
#include "runtime/distributed/watchdog.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <mutex>

#include "tests/engine/thread_ranks.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

using testing::ThreadRanks;

constexpr int kRanks = 4;

// What each rank was told of a loss.
class Losses {
 public:
  std::function<void(const LostRank&)> of(int rank) {
    return [this, rank](const LostRank& lost) { told_[static_cast<size_t>(rank)].set_value(lost); };
  }
  // Within ten seconds, on machines that do much else.
  std::optional<LostRank> wait(int rank, std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    std::future<LostRank> told = told_[static_cast<size_t>(rank)].get_future();
    if (told.wait_for(limit) != std::future_status::ready) return std::nullopt;
    return told.get();
  }

 private:
  std::promise<LostRank> told_[kRanks];
};

TEST(Watchdog, SaysNothingWhenAllEndInOrder) {
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    Watchdog watchdog(ranks, {.timeout_seconds = 20, .on_loss = losses.of(ranks.rank())});
    EXPECT_EQ(watchdog.hosts(), std::vector<std::string>(kRanks, host_name()));
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * ranks.rank()));  // one after the other, rank 0 first
    ranks.barrier();
    watchdog.finish();
  });
  for (int r = 0; r < kRanks; ++r) EXPECT_FALSE(losses.wait(r, std::chrono::milliseconds(1))) << r;
}

class WatchdogOf : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, WatchdogOf, ::testing::Values(0, 2), ::testing::PrintToStringParamName());

TEST_P(WatchdogOf, AFailureIsToldToAllOthers) {
  const int failing = GetParam();
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    Watchdog watchdog(ranks, {.timeout_seconds = 20, .on_loss = losses.of(ranks.rank())});
    watchdog.set_step(41);
    ranks.barrier();
    if (ranks.rank() == failing) return watchdog.fail("cannot read a b.png:\n no such file", 3);
    const std::optional<LostRank> lost = losses.wait(ranks.rank());
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->exit_code, 3);
    EXPECT_EQ(to_string(*lost), "lost rank " + std::to_string(failing) + " on " + host_name() +
                                    " at step 41: cannot read a b.png:  no such file");
  });
  EXPECT_FALSE(losses.wait(failing, std::chrono::milliseconds(1)));
}

// It beats so seldom that the others, who wait less long, take it for dead.
TEST_P(WatchdogOf, SilenceIsALoss) {
  const int silent = GetParam();
  Losses losses;
  const auto start = std::chrono::steady_clock::now();
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    const bool is_silent = ranks.rank() == silent;
    Watchdog watchdog(ranks, {.timeout_seconds = is_silent ? 3600. : 0.5, .on_loss = losses.of(ranks.rank())});
    if (!is_silent) {
      const std::optional<LostRank> lost = losses.wait(ranks.rank());
      EXPECT_EQ(lost ? lost->rank : -1, silent);
      EXPECT_HAS(lost ? lost->why : "", "no sign of life for 0.4 s");
    } else if (silent == 0) {
      // When it wakes it hears that it is the lost one, whatever else has ended by then.
      const std::optional<LostRank> lost = losses.wait(0);
      EXPECT_EQ(lost ? lost->rank : -1, 0);
      EXPECT_HAS(lost ? lost->why : "", "no sign of life for 0.4 s");
    }
    ranks.barrier();
  });
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(390));
}

// Of what it waits for on its device, say. One that has passed at the next beat was none.
TEST(Watchdog, ARankThatCannotGoOnIsLost) {
  Losses losses;
  std::atomic<int> asked{0};
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    Watchdog watchdog(ranks, {.timeout_seconds = 0.5, .on_loss = losses.of(ranks.rank())});
    watchdog.set_step(7);
    if (ranks.rank() == 1) {
      watchdog.also_watch([&] { return ++asked % 2 == 0 ? "for a moment" : ""; });
      while (asked < 6) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      watchdog.also_watch([] { return "the network card is gone"; });
    }
    ranks.barrier();
    const auto lost = losses.wait(ranks.rank());
    EXPECT_TRUE(lost.has_value());
    EXPECT_EQ(to_string(lost.value_or(LostRank{})),
              "lost rank 1 on " + host_name() + " at step 7: the network card is gone");
    ranks.barrier();
  });
}

// A host that has lost its power breaks connections of others, who see that before it has been silent for long.
TEST(Watchdog, TroubleIsAskedOfTheSilentFirst) {
  constexpr int kSilent = 2;
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    const bool is_silent = ranks.rank() == kSilent;
    Watchdog watchdog(ranks, {.timeout_seconds = is_silent ? 3600. : 1, .on_loss = losses.of(ranks.rank())});
    ranks.barrier();
    std::this_thread::sleep_for(std::chrono::milliseconds(400));  // the silent one's only beat is long past
    if (ranks.rank() == 1) watchdog.report("a connection broke");
    if (!is_silent) {
      const std::optional<LostRank> lost = losses.wait(ranks.rank());
      EXPECT_EQ(lost ? lost->rank : -1, kSilent);
      EXPECT_HAS(lost ? lost->why : "", "no sign of life for 0.8 s");
    }
    ranks.barrier();
  });
}

// A launcher may end rank 0 when the others have ended: what it has to say comes first.
TEST(Watchdog, RankZeroHasTheNewsBeforeTheOthers) {
  constexpr int kSilent = 2;
  Losses losses;
  std::atomic<bool> rank_zero_knows{false};
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    const int rank = ranks.rank();
    Watchdog watchdog(ranks, {.timeout_seconds = rank == kSilent ? 3600. : 2,
                              .on_loss = losses.of(rank),
                              .on_news = [&, rank](const LostRank& lost) {
                                if (rank == kSilent) return;  // it finds that the others have gone
                                EXPECT_EQ(lost.rank, kSilent);
                                if (rank != 0) {
                                  EXPECT_TRUE(rank_zero_knows) << rank;
                                  return;
                                }
                                std::this_thread::sleep_for(std::chrono::milliseconds(200));
                                rank_zero_knows = true;
                              }});
    if (rank != kSilent) {
      EXPECT_TRUE(losses.wait(rank).has_value());
    }
    ranks.barrier();
  });
}

TEST_P(WatchdogOf, TroubleOfOneWhileAllOthersLiveIsItsOwn) {
  const int troubled = GetParam();
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    Watchdog watchdog(ranks, {.timeout_seconds = 1, .on_loss = losses.of(ranks.rank())});
    watchdog.set_step(9);
    ranks.barrier();
    if (ranks.rank() == troubled) watchdog.report("a connection broke");
    const std::optional<LostRank> lost = losses.wait(ranks.rank());  // the troubled one hears it, too
    EXPECT_EQ(to_string(lost.value_or(LostRank{})),
              "lost rank " + std::to_string(troubled) + " on " + host_name() + " at step 9: a connection broke");
    ranks.barrier();
  });
}

// Beats go on while the work does not.
TEST(Watchdog, WorkThatStandsStillEndsAll) {
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    Watchdog watchdog(ranks, {.timeout_seconds = 1, .stall_seconds = 0.3, .on_loss = losses.of(ranks.rank())});
    std::this_thread::sleep_for(std::chrono::milliseconds(600));  // what comes before the first step may take long
    watchdog.set_step(7);
    for (int i = 0; i < 6; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      watchdog.moved();
    }
    const std::optional<LostRank> lost = losses.wait(ranks.rank());
    EXPECT_HAS(to_string(lost.value_or(LostRank{})),
               "at step 7: nothing has moved for 0.3 s: a sum over ranks, a kernel or a disk hangs");
    ranks.barrier();
  });
}

// All stand still, all but one because they wait for it, and that one tells last.
TEST_P(WatchdogOf, AStandstillIsOfTheOneThatStandsAlone) {
  const int stuck = GetParam();
  Losses losses;
  ThreadRanks(kRanks).run([&](Communicator& ranks) {
    const bool waits = ranks.rank() != stuck;
    Watchdog watchdog(ranks, {.timeout_seconds = 2, .stall_seconds = 0.5, .on_loss = losses.of(ranks.rank())});
    if (waits) watchdog.begin_together();
    watchdog.set_step(7);
    if (!waits) {
      watchdog.begin_together();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      watchdog.end_together();
      watchdog.moved();
    }
    const std::optional<LostRank> lost = losses.wait(ranks.rank());
    EXPECT_HAS(to_string(lost.value_or(LostRank{})),
               "lost rank " + std::to_string(stuck) + " on " + host_name() + " at step 7: nothing has moved for 0.5 s");
    ranks.barrier();
  });
}

TEST(Watchdog, OneProcessNeedsNone) {
  SingleProcess alone;
  Watchdog watchdog(alone, {});
  watchdog.fail("nobody hears it", 1);
  watchdog.finish();
}

}  // namespace
}  // namespace gradlibra
