// SPDX-License-Identifier: MIT
// The emulator catches each kind of mistake that it is there for.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/cuda/device_array.h"
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::emulator_test {
namespace {

using testing::DeviceArray;

constexpr int kSeeds = 16;
constexpr int kThreads = 96;

std::vector<int> numbers() {
  std::vector<int> x(kThreads);
  for (int i = 0; i < kThreads; ++i) x[static_cast<size_t>(i)] = 1000 + i;
  return x;
}

// Under how many of kSeeds seeds the kernel's result differs from the wanted one.
int wrong_results(const std::function<void(Cuda&, int*)>& kernel, const std::function<int(int)>& wanted) {
  Cuda cuda(nullptr);
  int wrong = 0;
  emulator::run_with_seeds(kSeeds, [&] {
    DeviceArray<int> y({kThreads});
    kernel(cuda, y.view().data());
    std::vector<int> want(kThreads);
    for (int i = 0; i < kThreads; ++i) want[static_cast<size_t>(i)] = wanted(i);
    wrong += y.to_host() != want;
  });
  return wrong;
}

TEST(BrokenRaces, MissingBarrierShows) {
  const DeviceArray<int> x({kThreads}, numbers());
  EXPECT_EQ(wrong_results([&](Cuda& c, int* y) { reverse_without_barrier(c, x.view().data(), kThreads, y); },
                          [](int i) { return 1000 + kThreads - 1 - i; }),
            kSeeds);
}
TEST(BrokenRaces, MissingBarrierBeforeOverwritingShows) {
  const DeviceArray<int> x({kThreads}, numbers());
  EXPECT_EQ(wrong_results([&](Cuda& c, int* y) { rotate_without_second_barrier(c, x.view().data(), kThreads, y); },
                          [](int i) { return 1000 + (i + 3) % kThreads; }),
            kSeeds);
}
TEST(BrokenRaces, MissingSyncwarpShows) {
  const DeviceArray<int> x({kThreads}, numbers());
  EXPECT_EQ(wrong_results([&](Cuda& c, int* y) { warp_exchange_without_syncwarp(c, x.view().data(), kThreads, y); },
                          [](int i) { return 1000 + (i ^ 1); }),
            kSeeds);
}
TEST(BrokenRaces, UnwrittenSharedMemoryShows) {
  EXPECT_EQ(wrong_results([](Cuda& c, int* y) { read_of_unwritten_static(c, kThreads, y); }, [](int) { return 0; }),
            kSeeds);
  EXPECT_EQ(wrong_results([](Cuda& c, int* y) { read_of_unwritten_inline(c, kThreads, y); }, [](int) { return 0; }),
            kSeeds);
  EXPECT_EQ(wrong_results([](Cuda& c, int* y) { read_of_unwritten_dynamic(c, kThreads, y); }, [](int) { return 0; }),
            kSeeds);
}
TEST(BrokenRaces, AdditionWithoutAtomicsShows) {
  EXPECT_EQ(wrong_results([](Cuda& c, int* y) { add_without_atomics(c, kThreads, y); }, [](int) { return kThreads; }),
            kSeeds);
}

// Expects that each seed's launch throws with all of these texts in the message.
void expect_refused(const std::function<void(Cuda&)>& kernel, const std::vector<std::string>& texts) {
  Cuda cuda(nullptr);
  emulator::run_with_seeds(kSeeds, [&] {
    try {
      kernel(cuda);
      ADD_FAILURE() << "not caught";
    } catch (const emulator::LaunchError& error) {
      for (const std::string& text : texts)
        EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what() << "\nlacks: " << text;
    }
  });
}

TEST(BrokenBarriers, ExitedThread) {
  expect_refused([](Cuda& c) { exit_before_barrier(c, 64); },
                 {"the block cannot go on: 1 of 64 threads have exited, 63 wait at the block's barrier",
                  "exit_before_barrier_kernel", "barriers.cu:", "grid (2, 1, 1), block (64, 1, 1)", "seed "});
}
TEST(BrokenBarriers, BarrierInABranch) {
  expect_refused([](Cuda& c) { barrier_in_a_branch(c, 64); }, {"32 of 64 threads have exited, 32 wait at"});
}
TEST(BrokenBarriers, TwoDifferentBarriers) {
  expect_refused([](Cuda& c) { two_different_barriers(c, 64); }, {"wait at different barriers"});
}
TEST(BrokenBarriers, BarrierAndShuffle) {
  expect_refused([](Cuda& c) { barrier_and_shuffle(c, 32); }, {"the block cannot go on", "barrier", "__shfl_sync"});
}
TEST(BrokenBarriers, ShuffleAfterExit) {
  expect_refused([](Cuda& c) { shuffle_after_exit(c, 64); }, {"__shfl_down_sync"});
  // 40 threads: the second warp has 8 lanes, of which 3 exit.
  expect_refused([](Cuda& c) { shuffle_after_exit(c, 40); }, {"names lanes that have exited or do not exist"});
}
TEST(BrokenBarriers, ShuffleInABranch) {
  expect_refused([](Cuda& c) { shuffle_in_a_branch(c, 32); }, {"lanes of a warp wait in different operations"});
}
TEST(BrokenBarriers, ShuffleWithDifferentMasks) {
  expect_refused([](Cuda& c) { shuffle_with_different_masks(c, 32); }, {"0xffffffff"});
}
TEST(BrokenBarriers, ShuffleOutsideMask) {
  expect_refused([](Cuda& c) { shuffle_outside_mask(c, 32); }, {"the calling lane is not in the mask 0xffff"});
}
TEST(BrokenBarriers, Trap) {
  expect_refused([](Cuda& c) { trap(c, 32); }, {"__trap at ", "thread (7, 0, 0)"});
}
TEST(BrokenBarriers, EmulatorGoesOnAfterwards) {
  Cuda cuda(nullptr);
  EXPECT_THROW(exit_before_barrier(cuda, 64), emulator::LaunchError);
  const DeviceArray<int> x({kThreads}, numbers());
  DeviceArray<int> sum({1});
  block_sums(cuda, x.view().data(), kThreads, sum.view().data(), 1, 64);
  EXPECT_EQ(sum.to_host()[0], 1000 * kThreads + kThreads * (kThreads - 1) / 2);
}

TEST(BrokenLaunches, BeyondLimits) {
  struct Case {
    dim3 grid, block;
    size_t shared_bytes;
    std::string text;
  };
  for (const Case& c : std::vector<Case>{{1, 1025, 0, "threads in a block"},
                                         {1, dim3(32, 33), 0, "threads in a block"},
                                         {1, dim3(1, 1, 65), 0, "block.z"},
                                         {1, dim3(1, 0), 0, "empty block"},
                                         {0, 32, 0, "empty grid"},
                                         {dim3(1, 1, 0), 32, 0, "empty grid"},
                                         {dim3(0x80000000u), 32, 0, "grid.x"},
                                         {dim3(1, 65536), 32, 0, "grid.y"},
                                         {dim3(1, 1, 65536), 32, 0, "grid.y or grid.z"},
                                         {1, 32, 48 * 1024 + 1, "shared memory"}})
    expect_refused([&](Cuda& cuda) { empty(cuda, c.grid, c.block, c.shared_bytes); },
                   {c.text, "empty_kernel", "sound.cu:"});
  Cuda cuda(nullptr);
  EXPECT_NO_THROW(empty(cuda, 1, 1024, 48 * 1024));
  EXPECT_NO_THROW(empty(cuda, dim3(1, 1, 3), dim3(2, 8, 64), 0));
}
TEST(BrokenLaunches, StaticSharedMemoryCounts) {
  Cuda cuda(nullptr);
  DeviceArray<float> y({1});
  EXPECT_NO_THROW(static_and_dynamic(cuda, 8 * 1024, y.view().data()));
  expect_refused([&](Cuda& c) { static_and_dynamic(c, 8 * 1024 + 1, y.view().data()); }, {"40960 of them static"});
}
TEST(BrokenLaunches, NullKernel) {
  expect_refused([](Cuda& c) { null_kernel(c); }, {"null kernel"});
}
TEST(BrokenLaunches, HostMemoryAsArgument) {
  DeviceArray<float> y({1});
  const std::vector<float> host(64);
  expect_refused([&](Cuda& c) { read_past_the_end(c, host.data(), 8, y.view().data()); },
                 {"argument 0 is not device memory"});
}

// The sanitizers end the program, so each of these runs in a child.
class BrokenMemoryDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "needs AddressSanitizer";
#endif
  }
  Cuda cuda{nullptr};
  DeviceArray<float> y{{1}};
};

TEST_F(BrokenMemoryDeathTest, ReadPastTheEnd) {
  DeviceArray<float> x({13});
  EXPECT_NO_THROW(read_past_the_end(cuda, x.view().data(), 12, y.view().data()));
  EXPECT_DEATH(read_past_the_end(cuda, x.view().data(), 13, y.view().data()), "heap-buffer-overflow");
}
TEST_F(BrokenMemoryDeathTest, WritePastSharedMemory) {
  EXPECT_DEATH(write_past_dynamic_shared(cuda, 13), "heap-buffer-overflow");
  EXPECT_NO_THROW(write_past_static_shared(cuda, 48));
  EXPECT_DEATH(write_past_static_shared(cuda, 49), "global-buffer-overflow|insufficient space");
}
TEST_F(BrokenMemoryDeathTest, MisalignedVector) {
  DeviceArray<float> x({8});
  EXPECT_DEATH(misaligned_vector_load(cuda, x.view().data(), y.view().data()), "misaligned address");
}
TEST_F(BrokenMemoryDeathTest, LauncherReadsDeviceMemory) {
  DeviceArray<float> x({1});
  EXPECT_DEATH(launcher_reads_device_memory(cuda, x.view().data()), "use-after-poison");
}
TEST_F(BrokenMemoryDeathTest, StackOverflow) {
  DeviceArray<int> x({1}, {0});
  EXPECT_NO_THROW(endless_recursion(cuda, 10, x.view().data()));
  EXPECT_DEATH(endless_recursion(cuda, 100000, x.view().data()), "AddressSanitizer");
}

}  // namespace
}  // namespace gradlibra::emulator_test
