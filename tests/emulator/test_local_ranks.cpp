// SPDX-License-Identifier: MIT
// `--ranks` on GPUs: processes of this very program, each with a rank's environment; their signals and exit codes. The
// GPUs are emulated.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "emulator/block.h"
#include "engine/local_ranks.h"
#include "engine/program.h"
#include "engine/ranks.h"
#include "runtime/distributed/mpi_communicator.h"
#include "tests/messages.h"
#include "tests/rank_processes.h"

namespace gradlibra::emulator_test {
namespace {

namespace fs = std::filesystem;

std::atomic<int> caught{0};

// For half a minute at most. The state of a stopped process is T, behind its name in brackets.
void wait_until_stopped(const fs::path& with_its_number) {
  for (int i = 0; i < 600; ++i, std::this_thread::sleep_for(std::chrono::milliseconds(50))) {
    std::string process, stat;
    std::ifstream(with_its_number) >> process;
    std::getline(std::ifstream("/proc/" + process + "/stat"), stat);
    if (!process.empty() && stat.find(") T ") != std::string::npos) return;
  }
}

// One of them: meets the others, writes down what it was told, and does what GRADLIBRA_TEST_RANK says.
[[noreturn]] void be_a_rank(const std::string& what) {
  const fs::path folder = environment_variable("GRADLIBRA_TEST_FOLDER").value_or("");
  const Launch launch = find_launch({.share_gpus = true});
  if (what == "early" && launch.rank == 1) ::_exit(4);
  std::signal(SIGUSR1, [](int number) { caught = number; });
  CLI::App app("", "train");
  const auto context = Context::for_device("cuda", 1, launch.local_rank);
  Ranks ranks(app, launch, {});
  const int code = ranks.run([&] {
    std::ofstream(folder / std::to_string(launch.rank)) << launch.master_address << "\n" << ranks.connect(*context);
    if (what == "fail" && launch.rank == 1) ::_exit(3);
    if (what == "fail") std::this_thread::sleep_for(std::chrono::seconds(60));
    if (what == "end") return 0;
    ranks.communicator().barrier();
    if (what == "stop" && launch.rank == 0) {
      wait_until_stopped(folder / "process");
      ::_exit(kLostRank);
    }
    if (what == "stop") {
      std::ofstream(folder / "process.new") << ::getpid();
      fs::rename(folder / "process.new", folder / "process");
      ::raise(SIGSTOP);
    }
    if (launch.rank == 0) ::kill(::getppid(), SIGINT);
    while (caught == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return 0;
  });
  ::_exit(code);
}

// This program is what run_local_ranks() starts: it is a rank, and runs no tests, where that is in its environment.
class RankProcess : public ::testing::Environment {
 public:
  void SetUp() override {
    const auto what = environment_variable("GRADLIBRA_TEST_RANK");
    if (what && environment_variable("RANK")) be_a_rank(*what);
  }
};
[[maybe_unused]] const auto* const rank_process = ::testing::AddGlobalTestEnvironment(new RankProcess);

class LocalRanks : public ::testing::Test {
 protected:
  LocalRanks() { fs::create_directories(folder_); }
  ~LocalRanks() override { fs::remove_all(folder_); }
  // The exit code of a process that starts two ranks, each of which does `what`.
  [[nodiscard]] std::string start(const std::string& what) const {
    return testing::run_processes(1, [&](int) {
      ::setenv("GRADLIBRA_TEST_RANK", what.c_str(), 1);
      ::setenv("GRADLIBRA_TEST_FOLDER", folder_.c_str(), 1);
      return std::to_string(
          run_local_ranks(2, /*may_use_gpus=*/true, /*share_gpus=*/true, {"--gtest_filter=LocalRanksRefused.*"}));
    })[0];
  }
  [[nodiscard]] std::string told(int rank) const {
    std::ifstream file(folder_ / std::to_string(rank));
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  const fs::path folder_ = fs::temp_directory_path() / ("gradlibra_local_ranks_" + std::to_string(::getpid()));
};

TEST_F(LocalRanks, MeetAndEnd) {
  EXPECT_EQ(start("end"), "0");
  for (const int rank : {0, 1}) {
    EXPECT_HAS(told(rank), "127.0.0.1\nranks: 2 by torchrun's environment, gradlibra ");
    EXPECT_HAS(told(rank), "  rank 1 on " + host_name() + ": emulator");
  }
}

// The first code that is not 0; the other rank ends by its watchdog.
TEST_F(LocalRanks, PassExitCodesOn) { EXPECT_EQ(start("fail"), "3"); }

// Before they have met nothing but this process knows: it ends the others.
TEST_F(LocalRanks, OneThatFailsBeforeTheMeetingEndsAll) {
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(start("early"), "4");
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(100)) << "not the time-out of the start";
}

// A rank that was stopped is killed in the end; what the ranks came to is what the others said, not this kill.
TEST_F(LocalRanks, AStoppedOneIsALostOne) { EXPECT_EQ(start("stop"), std::to_string(kLostRank)); }

// To all of them, as SIGUSR1; an orderly end after Ctrl-C is 130.
TEST_F(LocalRanks, PassSignalsOn) { EXPECT_EQ(start("signal"), "130"); }

TEST(LocalRanksRefused, MoreThanThereAreGpus) {
  EXPECT_EQ(message_of([] { (void)run_local_ranks(2, true, false, {}); }),
            "--ranks 2, but there is 1 GPU (is CUDA_VISIBLE_DEVICES set?): each rank needs its own, or add "
            "--share-gpus for a trial, or --device cpu");
  if (has_mpi()) return;  // it would start this test
  EXPECT_HAS(message_of([] { (void)run_local_ranks(2, false, false, {}); }),
             "--ranks on CPUs needs MPI, which this build");
}

}  // namespace
}  // namespace gradlibra::emulator_test
