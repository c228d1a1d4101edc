// SPDX-License-Identifier: MIT
// A GPU's memory and streams behind runtime/device/device.h.
#pragma once

#include <memory>
#include <vector>

#include "runtime/device/cuda_handles.h"
#include "runtime/device/device.h"

namespace gradlibra {

// Kernels and copies go to one stream, or to those of branches. Blocks come from the driver's pool, which keeps what it
// has had from the device; they are taken on a stream of their own, so that one may also be taken while the first is
// being captured.
class CudaDevice final : public Device {
 public:
  CudaDevice();
  ~CudaDevice() override;
  // Of the current branch.
  [[nodiscard]] cudaStream_t stream() const { return current_; }

  // std::runtime_error with the free and total memory and what to change.
  void* allocate(size_t bytes) override;
  void release(void* block, size_t bytes) noexcept override;
  // Pageable memory: the call returns when the host buffer has been read.
  void copy_in(const void* host, void* device, size_t bytes) override;
  void copy_out(const void* device, void* host, size_t bytes) override;
  void copy(const void* from, void* to, size_t bytes) override;
  void zero(void* block, size_t bytes) override;
  void synchronize() override;

  // Branch 0 stays on the stream that forks, each other one has its own.
  void fork(int count) override;
  void use_branch(int branch) override;
  void join() override;
  int mark() override;
  void await(int mark) override;

  // Page-locked staging on a stream of its own, two batches deep.
  std::unique_ptr<Prefetch> make_prefetch() override;
  std::unique_ptr<Readback> make_readback() override;
  // A CUDA graph. What `body` enqueues is recorded and not run; it must not copy from or to pageable memory, nor wait.
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& body) override;

 private:
  struct Branch {
    Stream stream = make_stream();
    Event done = make_event();
  };
  Stream stream_, allocation_stream_;
  cudaStream_t current_;
  std::vector<Branch> branches_;  // 1 and up
  size_t forked_ = 0;             // of them, now
  Event fork_ = make_event();
  std::vector<Event> marks_;
  size_t marked_ = 0;  // of them, since the fork
};

}  // namespace gradlibra
