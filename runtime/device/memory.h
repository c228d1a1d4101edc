// SPDX-License-Identifier: MIT
// Memory for tensors: blocks are kept and reused by size, so a training step of fixed shapes allocates nothing once the
// first steps have run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace gradlibra {

class Prefetch;
class Readback;
class CapturedWork;

// A device's memory: where blocks come from, and how bytes get in and out.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* allocate(size_t bytes) = 0;  // std::bad_alloc or std::runtime_error on failure, never null
  virtual void release(void* block, size_t bytes) noexcept = 0;
  virtual void copy_in(const void* host, void* device, size_t bytes) = 0;   // host memory may be reused on return
  virtual void copy_out(const void* device, void* host, size_t bytes) = 0;  // waits for earlier work
  virtual void copy(const void* from, void* to, size_t bytes) = 0;          // on the device
  virtual void zero(void* block, size_t bytes) = 0;
  virtual void synchronize() = 0;

  // From fork() to join() what is enqueued belongs to one of `count` branches, the one last named by use_branch(), 0 at
  // first. A branch comes behind what was enqueued before fork() and before what is enqueued after join(); branches may
  // run side by side. Forks do not nest. On a host everything is done when a call returns, and these do nothing.
  virtual void fork(int count) = 0;
  virtual void use_branch(int branch) = 0;
  virtual void join() = 0;
  // A mark behind what the current branch has been given so far, good until join(); what the current branch is given
  // after await(mark) comes behind it.
  virtual int mark() = 0;
  virtual void await(int mark) = 0;

  // runtime/device/transfer.h
  virtual std::unique_ptr<Prefetch> make_prefetch() = 0;
  virtual std::unique_ptr<Readback> make_readback() = 0;
  virtual std::unique_ptr<CapturedWork> capture(const std::function<void()>& body) = 0;
};

// 64-byte aligned host memory.
class HostMemory final : public DeviceMemory {
 public:
  void* allocate(size_t bytes) override;
  void release(void* block, size_t bytes) noexcept override;
  void copy_in(const void* host, void* device, size_t bytes) override;
  void copy_out(const void* device, void* host, size_t bytes) override;
  void copy(const void* from, void* to, size_t bytes) override;
  void zero(void* block, size_t bytes) override;
  void synchronize() override {}
  void fork(int) override {}
  void use_branch(int) override {}
  void join() override {}
  int mark() override { return 0; }
  void await(int) override {}
  std::unique_ptr<Prefetch> make_prefetch() override;
  std::unique_ptr<Readback> make_readback() override;
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& body) override;
};

// Free lists by rounded size over a device. One thread at a time. A block may be handed out again as soon as its last
// use has been enqueued: on a GPU what is enqueued later runs later. Between fork() and join() that holds within a
// branch only, so what a branch gives back it alone gets again, and what was not its own nobody gets before join().
class MemoryPool {
 public:
  explicit MemoryPool(DeviceMemory& device) : device_(device) {}
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

  // As DeviceMemory's. A block that a branch took is used by that branch and by what is enqueued after the join, by
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
  DeviceMemory& device_;
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
