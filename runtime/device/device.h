// SPDX-License-Identifier: MIT
// A device as the runtime sees it: memory, copies, and the order of what is enqueued. Kernels reach it through the
// context's executor.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace gradlibra {

class Prefetch;
class Readback;
class CapturedWork;

// Where blocks of memory come from, how bytes get in and out, and which work comes behind which.
class Device {
 public:
  virtual ~Device() = default;
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

// The host: 64-byte aligned memory, and everything done when a call returns.
class HostDevice final : public Device {
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

}  // namespace gradlibra
