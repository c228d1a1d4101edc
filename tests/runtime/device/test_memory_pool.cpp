// SPDX-License-Identifier: MIT
// The memory pool: what it takes from its device, keeps, and gives back.
#include "runtime/device/memory_pool.h"

#include "runtime/device/transfer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <vector>

namespace gradlibra {
namespace {

// A host that keeps account.
class CountedDevice final : public Device {
 public:
  void* allocate(size_t bytes) override {
    void* block = host_.allocate(bytes);
    live[block] = bytes;
    ++allocations;
    return block;
  }
  void release(void* block, size_t bytes) noexcept override {
    const auto found = live.find(block);
    if (found == live.end() || found->second != bytes) {
      ++wrong_releases;
      return;
    }
    live.erase(found);
    host_.release(block, bytes);
  }
  void copy_in(const void* host, void* device, size_t bytes) override { host_.copy_in(host, device, bytes); }
  void copy_out(const void* device, void* host, size_t bytes) override { host_.copy_out(device, host, bytes); }
  void copy(const void* from, void* to, size_t bytes) override { host_.copy(from, to, bytes); }
  void zero(void* block, size_t bytes) override { host_.zero(block, bytes); }
  void synchronize() override {}
  void fork(int) override {}
  void use_branch(int) override {}
  int mark() override { return 0; }
  void await(int) override {}
  void join() override {}
  std::unique_ptr<Prefetch> make_prefetch() override { return host_.make_prefetch(); }
  std::unique_ptr<Readback> make_readback() override { return host_.make_readback(); }
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& body) override { return host_.capture(body); }

  [[nodiscard]] int64_t live_bytes() const {
    int64_t sum = 0;
    for (const auto& [block, bytes] : live) sum += static_cast<int64_t>(bytes);
    return sum;
  }
  std::map<void*, size_t> live;
  int allocations = 0, wrong_releases = 0;

 private:
  HostDevice host_;
};

TEST(HostDevice, BlocksAreAlignedAndWritable) {
  HostDevice device;
  for (const size_t bytes : {size_t{1}, size_t{63}, size_t{64}, size_t{1000}, size_t{1} << 20}) {
    void* block = device.allocate(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u) << bytes;
    std::memset(block, 1, bytes);
    device.release(block, bytes);
  }
}

TEST(HostDevice, CopiesAndZeroes) {
  HostDevice device;
  std::vector<int> host{1, 2, 3, 4}, back(4, -1);
  void* a = device.allocate(16);
  void* b = device.allocate(16);
  device.copy_in(host.data(), a, 16);
  device.copy(a, b, 16);
  device.zero(a, 8);
  device.copy_out(b, back.data(), 16);
  EXPECT_EQ(back, host);
  device.copy_out(a, back.data(), 16);
  EXPECT_EQ(back, (std::vector<int>{0, 0, 3, 4}));
  device.copy_in(nullptr, a, 0);
  device.copy_out(a, nullptr, 0);
  device.copy(nullptr, nullptr, 0);
  device.zero(nullptr, 0);
  device.release(a, 16);
  device.release(b, 16);
}

TEST(MemoryPool, ReusesABlockOfTheSameSize) {
  CountedDevice device;
  MemoryPool pool(device);
  void* first = pool.take(1000);
  pool.give(first, 1000);
  EXPECT_EQ(pool.take(1000), first);
  EXPECT_EQ(device.allocations, 1);
  void* second = pool.take(1000);  // the first is in use
  EXPECT_NE(second, first);
  EXPECT_EQ(device.allocations, 2);
  pool.give(first, 1000);
  pool.give(second, 1000);
}

TEST(MemoryPool, NearlyEqualSizesMeetAndDifferentOnesDoNot) {
  CountedDevice device;
  MemoryPool pool(device);
  void* large = pool.take(1'000'000);
  pool.give(large, 1'000'000);
  EXPECT_EQ(pool.take(1'000'100), large);
  pool.give(large, 1'000'100);
  void* small = pool.take(1000);
  EXPECT_NE(small, large);
  EXPECT_LE(device.live[small], 1024u);
  pool.give(small, 1000);
}

// A block is never smaller than asked for, and wastes at most an eighth (256 bytes if small).
TEST(MemoryPool, BlocksFit) {
  CountedDevice device;
  MemoryPool pool(device);
  for (size_t bytes = 0; bytes < 3'000'000; bytes = bytes * 9 / 8 + 1) {
    void* block = pool.take(bytes);
    EXPECT_GE(device.live[block], bytes);
    EXPECT_LE(device.live[block], bytes + std::max<size_t>(256, bytes / 8));
    pool.give(block, bytes);
  }
}

// A negative size becomes one of these; the search for its raster would never end.
TEST(MemoryPool, ImpossibleSizesAreRefused) {
  CountedDevice device;
  MemoryPool pool(device);
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 64 + 1})
    EXPECT_THROW((void)pool.take(bytes), std::length_error);
}

TEST(MemoryPool, CountsWhatIsReservedInUseAndAtThePeak) {
  CountedDevice device;
  MemoryPool pool(device);
  EXPECT_EQ(pool.bytes_reserved(), 0);
  EXPECT_EQ(pool.peak_bytes_in_use(), 0);
  void* a = pool.take(1024);
  void* b = pool.take(2048);
  EXPECT_EQ(pool.bytes_in_use(), 3072);
  pool.give(b, 2048);
  EXPECT_EQ(pool.bytes_in_use(), 1024);
  EXPECT_EQ(pool.bytes_reserved(), 3072);
  EXPECT_EQ(pool.peak_bytes_in_use(), 3072);
  b = pool.take(2048);
  EXPECT_EQ(pool.peak_bytes_in_use(), 3072);
  EXPECT_EQ(device.live_bytes(), pool.bytes_reserved());
  pool.give(a, 1024);
  pool.give(b, 2048);
  EXPECT_EQ(pool.bytes_in_use(), 0);
}

TEST(MemoryPool, TrimGivesBackWhatIsUnused) {
  CountedDevice device;
  MemoryPool pool(device);
  void* used = pool.take(1024);
  void* unused = pool.take(4096);
  pool.give(unused, 4096);
  pool.trim();
  EXPECT_EQ(pool.bytes_reserved(), 1024);
  EXPECT_EQ(device.live_bytes(), 1024);
  EXPECT_EQ(device.live.count(used), 1u);
  pool.trim();
  EXPECT_EQ(pool.bytes_reserved(), 1024);
  void* again = pool.take(4096);
  EXPECT_EQ(device.allocations, 3);
  pool.give(again, 4096);
  pool.give(used, 1024);
}

TEST(MemoryPool, GivesEverythingBackAtTheEnd) {
  CountedDevice device;
  {
    MemoryPool pool(device);
    std::vector<void*> blocks;
    for (size_t bytes = 1; bytes < 100'000; bytes *= 3) blocks.push_back(pool.take(bytes));
    size_t bytes = 1;
    for (void* block : blocks) {
      pool.give(block, bytes);
      bytes *= 3;
    }
  }
  EXPECT_TRUE(device.live.empty());
  EXPECT_EQ(device.wrong_releases, 0);
}

TEST(MemoryPool, ABranchReusesItsOwnBlocksAndNobodyElses) {
  CountedDevice device;
  MemoryPool pool(device);
  void* before = pool.take(1000);
  void* unused = pool.take(1000);
  pool.give(unused, 1000);

  pool.fork();
  void* first = pool.take(1000);
  EXPECT_EQ(first, unused);  // whatever used it was enqueued before the fork
  pool.give(first, 1000);
  pool.use_branch(1);
  void* second = pool.take(1000);
  EXPECT_NE(second, first);  // branch 0 may still be at work on it
  pool.give(second, 1000);
  EXPECT_EQ(pool.take(1000), second);
  pool.give(before, 1000);  // taken before the fork: other branches may read it
  void* third = pool.take(1000);
  EXPECT_NE(third, before);
  pool.use_branch(0);
  EXPECT_EQ(pool.take(1000), first);
  pool.give(third, 1000);  // of branch 1
  void* fourth = pool.take(1000);
  EXPECT_NE(fourth, third);
  pool.use_branch(1);
  void* fifth = pool.take(1000);
  EXPECT_NE(fifth, third);
  pool.join();

  EXPECT_EQ(device.allocations, 6);
  std::vector<void*> taken{first, second, fourth, fifth, pool.take(1000), pool.take(1000)};
  EXPECT_EQ(device.allocations, 6);  // all of them are free for everybody again
  EXPECT_EQ(std::set<void*>(taken.begin(), taken.end()).size(), 6u);
  // What a branch took and gives back in a later fork is its own still: nobody but it has used it since.
  pool.fork();
  pool.use_branch(1);
  pool.give(second, 1000);
  EXPECT_EQ(pool.take(1000), second);
  pool.join();
  for (void* block : taken) pool.give(block, 1000);
  EXPECT_EQ(pool.bytes_in_use(), 0);
}

TEST(MemoryPool, ForksDoNotNest) {
  CountedDevice device;
  MemoryPool pool(device);
  pool.fork();
  EXPECT_THROW(pool.fork(), std::logic_error);
  pool.join();
  pool.fork();
  pool.join();
}

TEST(MemoryPool, BlocksOfARecordingAreKeptBackUntilRestored) {
  CountedDevice device;
  {
    MemoryPool pool(device);
    void* before = pool.take(1000);
    pool.give(before, 1000);
    pool.start_recording();
    void* used = pool.take(1000);
    EXPECT_EQ(used, before);
    pool.give(used, 1000);
    const auto blocks = pool.stop_recording();
    ASSERT_EQ(blocks.size(), 1u);
    EXPECT_EQ(blocks[0].memory, used);
    void* other = pool.take(1000);
    EXPECT_NE(other, used);
    pool.trim();  // leaves what belongs to the recording alone
    EXPECT_TRUE(device.live.contains(used));
    pool.restore(blocks);
    EXPECT_EQ(pool.take(1000), used);
    pool.give(used, 1000);

    // What is still in use when the recording ends would be overwritten by it.
    pool.start_recording();
    void* kept = pool.take(1000);
    EXPECT_THROW((void)pool.stop_recording(), std::logic_error);
    pool.give(kept, 1000);
    pool.give(other, 1000);
  }
  EXPECT_EQ(device.live_bytes(), 0);
  EXPECT_EQ(device.wrong_releases, 0);
}

}  // namespace
}  // namespace gradlibra
