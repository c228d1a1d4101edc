// SPDX-License-Identifier: MIT
// Ranks with GPUs whose hosts meet by MPI, as under `mpirun`: NCCL's id comes through it, sums go through NCCL. Run by
// mpirun alone (ctest -R emulated.mpi_hosts). The GPUs and NCCL are the emulator's.
#include <gtest/gtest.h>

#include "engine/program.h"
#include "engine/ranks.h"
#include "tests/emulator/emulated_ranks.h"
#include "tests/messages.h"

namespace gradlibra::emulator_test {
namespace {

TEST(MpiHosts, MeetByMpiAndSumByNccl) {
  const Launch launch = find_launch({});
  if (!launch.by_mpi) GTEST_SKIP() << "not started by mpirun";
  const int rank = launch.rank, count = launch.world_size;
  ASSERT_EQ(count, 3);
  emulator::set_bus(3 + static_cast<unsigned>(rank));
  const auto context = Context::for_device("cuda", 1, launch.local_rank);
  CLI::App app("", "train");
  Ranks ranks(app, launch, {.timeout = 20, .start_timeout = 20});
  EXPECT_EQ(ranks.run([&] {
    const std::string who = ranks.connect(*context);
    EXPECT_HAS(who, ", NCCL 2.19.3, hosts by ");
    EXPECT_EQ(who.find("hosts by TCP"), std::string::npos) << who;
    Communicator& communicator = ranks.communicator();
    Tensor values = context->upload<float>(std::vector<float>{float(rank), 1, 100}, {3});
    communicator.sum(values.view());
    EXPECT_EQ(context->download<float>(values), (std::vector<float>{3, 3, 300}));
    Tensor from_last = context->upload<float>(std::vector<float>{float(rank)}, {1});
    communicator.broadcast(from_last.view(), count - 1);
    EXPECT_EQ(context->download<float>(from_last), std::vector<float>{float(count - 1)});
    EXPECT_EQ(communicator.gather(std::to_string(rank)), (std::vector<std::string>{"0", "1", "2"}));
    return 0;
  }),
            0);
}

}  // namespace
}  // namespace gradlibra::emulator_test
