// SPDX-License-Identifier: MIT
// Ranks with GPUs that a launcher has started: hosts meet by MPI under mpirun (ctest -R emulated.mpi_hosts), by TCP
// under a real SLURM of two hosts (tests/faults/slurm.sh); NCCL's id comes that way, sums go through NCCL. The GPUs and
// NCCL are the emulator's.
#include <gtest/gtest.h>

#include <iostream>

#include "engine/program.h"
#include "engine/ranks.h"
#include "tests/emulator/emulated_ranks.h"
#include "tests/messages.h"

namespace gradlibra::emulator_test {
namespace {

TEST(Hosts, MeetAndSumByNccl) {
  const Launch launch = find_launch({});
  const int rank = launch.rank, count = launch.world_size;
  if (count == 1) GTEST_SKIP() << "not started as several ranks, by mpirun or srun";
  emulator::set_bus(3 + static_cast<unsigned>(rank));
  const auto context = Context::for_device("cuda", 1, launch.local_rank);
  CLI::App app("", "train");
  Ranks ranks(app, launch, {.timeout = 60, .start_timeout = 60});
  EXPECT_EQ(ranks.run([&] {
    const std::string who = ranks.connect(*context);
    EXPECT_HAS(who, ", NCCL 2.19.3, hosts by ");
    EXPECT_EQ(who.find("hosts by TCP") == std::string::npos, launch.by_mpi) << who;
    if (rank == 0) std::cout << who << std::endl;
    Communicator& communicator = ranks.communicator();
    Tensor values = context->upload<float>(std::vector<float>{float(rank), 1, 100}, {3});
    communicator.sum(values.view());
    EXPECT_EQ(context->download<float>(values),
              (std::vector<float>{float(count * (count - 1) / 2), float(count), float(100 * count)}));
    Tensor from_last = context->upload<float>(std::vector<float>{float(rank)}, {1});
    communicator.broadcast(from_last.view(), count - 1);
    EXPECT_EQ(context->download<float>(from_last), std::vector<float>{float(count - 1)});
    std::vector<std::string> numbers;
    for (int from = 0; from < count; ++from) numbers.push_back(std::to_string(from));
    EXPECT_EQ(communicator.gather(std::to_string(rank)), numbers);
    return 0;
  }),
            0);
}

}  // namespace
}  // namespace gradlibra::emulator_test
