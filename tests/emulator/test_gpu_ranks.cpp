// SPDX-License-Identifier: MIT
// engine/ranks.h with GPUs: who is connected, who is refused, and how a lost rank ends the others. The GPUs and NCCL
// are the emulator's.
#include <gtest/gtest.h>
#include <nccl.h>

#include <csignal>
#include <thread>

#include "engine/program.h"
#include "engine/ranks.h"
#include "tests/emulator/emulated_ranks.h"
#include "tests/messages.h"
#include "tests/rank_processes.h"

namespace gradlibra {

// The program's own is in a part of the engine that is not built here.
ExitCode exit_code_of(const std::exception&) { return kFailure; }

namespace emulator_test {
namespace {

using Texts = std::vector<std::string>;

class GpuRanks : public ::testing::Test {
 protected:
  using Body = std::function<std::string(Ranks&, Context&)>;

  // body(ranks, context) on every rank, before ranks.connect(context).
  Texts run(int count, const Body& body) const {
    read_symbols();
    const int port = free_port();
    return testing::run_processes(count, [&](int rank) {
      emulator::set_bus(share_gpu_ ? 7 : 3 + static_cast<unsigned>(rank));
      Launch launch{.rank = rank, .world_size = count, .local_rank = rank, .master_address = "127.0.0.1"};
      launch.master_port = port, launch.source = "a test", launch.share_gpus = may_share_(rank);
      CLI::App app("", "train");
      const auto context = on_host_(rank) ? std::make_unique<Context>(1) : Context::for_device("cuda", 1, rank);
      std::string result;
      try {
        Ranks ranks(app, launch, config_);
        ranks.run([&] {
          result = body(ranks, *context);
          return 0;
        });
      } catch (const AgreedError& error) {
        result = std::string("agreed: ") + error.what();
      } catch (const std::exception& error) {
        result = app.get_name() + ": " + error.what();
      }
      return result;
    });
  }

  DistributedConfig config_{.timeout = 2, .start_timeout = 20};
  std::function<bool(int)> on_host_ = [](int) { return false; };
  std::function<bool(int)> may_share_ = [](int) { return false; };
  bool share_gpu_ = false;
};

TEST_F(GpuRanks, AreConnectedAndIntroduced) {
  const Texts results = run(3, [](Ranks& ranks, Context& context) {
    std::string text = ranks.connect(context);
    Tensor values = context.zeros({5});
    ranks.communicator().broadcast(values.view(), 1);
    EXPECT_EQ(ranks.communicator().world_size(), 3);
    return text;
  });
  for (const std::string& text : results) {
    expect_mentions(text,
                    {"ranks: 3 by a test, gradlibra ", ", NCCL 2.19.3, hosts by TCP, CUDA 12.4 (driver ", "12.4)\n",
                     "  rank 0 on " + host_name() + ": emulator, 4096 MiB, plain convolutions, 0000:03:00.0\n",
                     "  rank 2 on " + host_name() + ": emulator, 4096 MiB, plain convolutions, 0000:05:00.0\n",
                     "  a sum of 1 MB over all ranks takes "});
  }
}

std::string connect(Ranks& ranks, Context& context) { return ranks.connect(context); }

TEST_F(GpuRanks, AllOrNoneHaveAGpu) {
  on_host_ = [](int rank) { return rank == 1; };
  const Texts results = run(2, connect);
  EXPECT_EQ(results[0], "agreed: rank 0 on " + host_name() + " has emulator, 4096 MiB, plain convolutions, rank 1 on " +
                            host_name() +
                            " has CPU, 1 thread, plain loops: all ranks need a GPU, or give all --device cpu");
  EXPECT_EQ(results[1], results[0]);
}

TEST_F(GpuRanks, RanksOnCpusNeedMpi) {
  on_host_ = [](int) { return true; };
  for (const std::string& text : run(2, connect))
    EXPECT_HAS(text,
               "agreed: 2 ranks on CPUs by a test: MPI must connect them: start them with mpirun, or srun "
               "--mpi=pmix where SLURM knows this MPI");
}

TEST_F(GpuRanks, ShareAGpuOnlyIfTheyMay) {
  share_gpu_ = true;
  for (const std::string& text : run(3, connect))
    EXPECT_HAS(text, "agreed: ranks 0 and 1 on " + host_name() + " have the same GPU (0000:07:00.0): start no more");
  may_share_ = [](int rank) { return rank == 1; };
  for (const std::string& text : run(3, connect))
    EXPECT_HAS(text, "agreed: rank 0 on " + host_name() + " may not share its GPU with another, rank 1 on " +
                         host_name() + " may: give --share-gpus to all ranks, or to none");
  may_share_ = [](int) { return true; };
  const Texts results = run(2, [](Ranks& ranks, Context& context) {
    (void)ranks.connect(context);
    return environment_variable("NCCL_HOSTID").value_or("") + " " +
           environment_variable("NCCL_P2P_DISABLE").value_or("");
  });
  EXPECT_EQ(results, (Texts{host_name() + "-rank-0 1", host_name() + "-rank-1 1"}));
}

// The others end by their watchdog, with its exit code, whatever they wait for.
TEST_F(GpuRanks, AKilledRankEndsTheOthers) {
  const Texts results = run(3, [](Ranks& ranks, Context& context) -> std::string {
    (void)ranks.connect(context);
    Tensor values = context.zeros({5});
    if (ranks.communicator().rank() == 1) ::raise(SIGKILL);
    for (int i = 0; i < 1000; ++i) {
      ranks.communicator().sum(values.view());
      (void)ranks.communicator().gather("next");
    }
    return "never";
  });
  EXPECT_EQ(results, (Texts{"exit code 5", "signal 9", "exit code 5"}));
}

// Collectives of one rank fail while its host waits for something else: for its device, with NCCL itself.
TEST_F(GpuRanks, AFailureWhileTheHostWaitsEndsAll) {
  const Texts results = run(2, [](Ranks& ranks, Context& context) -> std::string {
    (void)ranks.connect(context);
    if (ranks.communicator().rank() == 1) emulator::fail_collectives(ncclRemoteError, "socket closed");
    std::this_thread::sleep_for(std::chrono::seconds(30));
    return "never";
  });
  EXPECT_EQ(results, (Texts{"exit code 5", "exit code 5"}));
}

// Seen by the rank itself: all others live, so it is the lost one.
TEST_F(GpuRanks, AFailureThatTheHostSeesEndsAll) {
  const Texts results = run(2, [](Ranks& ranks, Context& context) -> std::string {
    (void)ranks.connect(context);
    ranks.communicator().barrier();
    if (ranks.communicator().rank() == 0) std::this_thread::sleep_for(std::chrono::seconds(30));
    Tensor values = context.zeros({5});
    ranks.communicator().broadcast(values.view(), 9);
    return "never";
  });
  EXPECT_EQ(results, (Texts{"exit code 5", "exit code 5"}));
}

}  // namespace
}  // namespace emulator_test
}  // namespace gradlibra
