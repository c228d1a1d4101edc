// SPDX-License-Identifier: MIT
// Memory for tensors: blocks are kept and reused by size, so a training step of fixed shapes allocates nothing once the
// first steps have run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/device/device.h"

namespace gradlibra {

// Free lists by rounded size over a device. One thread at a time. A block may be handed out again as soon as its last
// use has been enqueued: on a GPU what is enqueued later runs later. Between fork() and join() that holds within a
// branch only, so what a branch gives back it alone gets again, and what was not its own nobody gets before join().
class MemoryPool {
 public:
  explicit MemoryPool(Device& device) : device_(device) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  [[nodiscard]] void* take(size_t bytes);
  void give(void* block, size_t bytes) noexcept;

  [[nodiscard]] int64_t bytes_reserved() const { return reserved_; }  // taken from the device and not given back
  [[nodiscard]] int64_t bytes_in_use() const { return in_use_; }
  [[nodiscard]] int64_t peak_bytes_in_use() const { return peak_; }

  // Returns unused blocks to the device.
  void trim();

  // As Device's. A block that a branch took is used by that branch and by what is enqueued after the join, by
  // nobody else.
  void fork();
  void use_branch(int branch) { branch_ = branch; }
  void join();

  // For a recorded piece of work, which uses its blocks again at every replay: all blocks that were handed out between
  // the two calls are kept back from then on, until restore() gives them to everybody again. std::logic_error if one of
  // them is still in use.
  struct Block {
    void* memory;
    size_t size;  // rounded
  };
  void start_recording();
  [[nodiscard]] std::vector<Block> stop_recording();
  void restore(const std::vector<Block>& blocks);

 private:
  using FreeLists = std::map<size_t, std::vector<void*>>;
  static constexpr int kNoBranch = -1;
  static size_t rounded(size_t bytes);
  static void* take_from(FreeLists& lists, size_t size);  // null if there is none
  Device& device_;
  FreeLists free_;
  int branch_ = kNoBranch;
  std::map<int, FreeLists>
      branch_free_;  // what branches have given back since the fork; under kNoBranch what waits for the join
  std::map<void*, int> branch_of_;  // which branch took a block that is in use
  bool recording_ = false;
  std::map<void*, size_t> recorded_;
  int64_t reserved_ = 0, in_use_ = 0, peak_ = 0;
};

}  // namespace gradlibra
