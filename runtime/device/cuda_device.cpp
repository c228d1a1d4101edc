// SPDX-License-Identifier: MIT
#include "runtime/device/cuda_device.h"

#include "runtime/device/transfer.h"

#include <array>
#include <cstring>
#include <deque>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace gradlibra {

namespace {

// Two slots in turn: while the device works on one batch, the next is on its way. A batch goes from pageable to
// page-locked memory on the calling thread, from there to the device on the transfer stream, and into its tensors by a
// copy on the device.
class CudaPrefetch final : public Prefetch {
 public:
  explicit CudaPrefetch(CudaDevice& device) : device_(device) {}
  ~CudaPrefetch() override {
    cudaStreamSynchronize(stream_.get());
    for (Slot& slot : slots_)
      if (slot.device != nullptr) device_.release(slot.device, slot.bytes);
  }

  void stage(std::span<const Item> items) override {
    current_ = 1 - current_;
    Slot& slot = slots_[current_];
    check(cudaEventSynchronize(slot.uploaded.get()));  // the page-locked memory is free again
    size_t bytes = 0;
    for (const Item& item : items) bytes += padded(item.to->bytes());
    reserve(slot, bytes);
    slot.items.assign(items.begin(), items.end());
    auto* at = static_cast<std::byte*>(slot.pinned.get());
    for (const Item& item : items) {
      if (item.to->bytes() > 0) std::memcpy(at, item.host, item.to->bytes());
      at += padded(item.to->bytes());
    }
    check(cudaStreamWaitEvent(stream_.get(), slot.delivered.get(), 0));  // so is the device's
    if (bytes > 0) check(cudaMemcpyAsync(slot.device, slot.pinned.get(), bytes, cudaMemcpyHostToDevice, stream_.get()));
    check(cudaEventRecord(slot.uploaded.get(), stream_.get()));
  }

  void deliver() override {
    Slot& slot = slots_[current_];
    check(cudaStreamWaitEvent(device_.stream(), slot.uploaded.get(), 0));
    const auto* at = static_cast<const std::byte*>(slot.device);
    for (const Item& item : slot.items) {
      device_.copy(at, item.to->data(), item.to->bytes());
      at += padded(item.to->bytes());
    }
    slot.items.clear();
    check(cudaEventRecord(slot.delivered.get(), device_.stream()));
  }

 private:
  struct Slot {
    PinnedMemory pinned;
    void* device = nullptr;
    size_t bytes = 0;
    std::vector<Item> items;
    Event uploaded = make_event(), delivered = make_event();
  };
  // Items start on 256-byte boundaries.
  static size_t padded(size_t bytes) { return (bytes + 255) / 256 * 256; }
  void reserve(Slot& slot, size_t bytes) {
    if (bytes <= slot.bytes) return;
    device_.synchronize();
    if (slot.device != nullptr) device_.release(slot.device, slot.bytes);
    slot.device = nullptr;
    slot.bytes = 0;
    slot.device = device_.allocate(bytes);
    slot.pinned = make_pinned(bytes);
    slot.bytes = bytes;
  }

  CudaDevice& device_;
  Stream stream_ = make_stream();
  std::array<Slot, 2> slots_;
  size_t current_ = 0;
};

class CudaReadback final : public Readback {
 public:
  explicit CudaReadback(CudaDevice& device) : device_(device) {}

  void start(const Tensor& doubles) override {
    if (pending_.size() == kPending) throw std::logic_error("Readback: too many values under way");
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kPending;
    const auto count = static_cast<size_t>(doubles.size());
    if (slot.capacity < count) {
      slot.pinned = make_pinned(count * sizeof(double));
      slot.capacity = count;
    }
    slot.count = count;
    if (count > 0)
      check(cudaMemcpyAsync(slot.pinned.get(), doubles.view<double>().data(), doubles.bytes(), cudaMemcpyDeviceToHost,
                            device_.stream()));
    check(cudaEventRecord(slot.done.get(), device_.stream()));
    pending_.push_back(&slot);
  }

  std::vector<double> wait() override {
    if (pending_.empty()) throw std::logic_error("Readback: nothing was started");
    const Slot& slot = *pending_.front();
    pending_.pop_front();
    check(cudaEventSynchronize(slot.done.get()));
    const auto* values = static_cast<const double*>(slot.pinned.get());
    return {values, values + slot.count};
  }

 private:
  struct Slot {
    PinnedMemory pinned;
    size_t capacity = 0, count = 0;
    Event done = make_event();
  };
  CudaDevice& device_;
  std::array<Slot, kPending> slots_;
  size_t next_ = 0;
  std::deque<const Slot*> pending_;
};

using Graph = std::unique_ptr<CUgraph_st, Destroyer<cudaGraphDestroy>>;
using GraphExec = std::unique_ptr<CUgraphExec_st, Destroyer<cudaGraphExecDestroy>>;

class CudaGraph final : public CapturedWork {
 public:
  CudaGraph(Graph graph, cudaStream_t stream) : stream_(stream) {
    cudaGraphExec_t exec = nullptr;
    check(cudaGraphInstantiate(&exec, graph.get(), 0));
    exec_.reset(exec);
  }
  void launch() override { check(cudaGraphLaunch(exec_.get(), stream_)); }

 private:
  GraphExec exec_;
  cudaStream_t stream_;
};

}  // namespace

CudaDevice::CudaDevice() : stream_(make_stream()), allocation_stream_(make_stream()), current_(stream_.get()) {
  int device = 0;
  check(cudaGetDevice(&device));
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device));
  uint64_t keep_everything = std::numeric_limits<uint64_t>::max();
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_everything));
}

CudaDevice::~CudaDevice() {
  for (const Branch& branch : branches_) cudaStreamSynchronize(branch.stream.get());
  cudaStreamSynchronize(stream_.get());
  cudaStreamSynchronize(allocation_stream_.get());
}

void* CudaDevice::allocate(size_t bytes) {
  void* block = nullptr;
  // While this thread captures the work's stream, waiting for another one is refused unless it says that it knows.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  check(cudaThreadExchangeStreamCaptureMode(&mode));
  cudaError_t status = cudaMallocAsync(&block, bytes, allocation_stream_.get());
  if (status == cudaSuccess) status = cudaStreamSynchronize(allocation_stream_.get());
  check(cudaThreadExchangeStreamCaptureMode(&mode));
  if (status == cudaSuccess) return block;
  if (status != cudaErrorMemoryAllocation) check(status);
  cudaGetLastError();  // out of memory is not sticky
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw std::runtime_error("the GPU has " + std::to_string(free >> 20) + " MiB left of " + std::to_string(total >> 20) +
                           ", " + std::to_string(bytes >> 20) +
                           " MiB more were needed: use a smaller loader.batch_size or image size");
}

// On the work's stream: whatever still uses the block was enqueued before.
void CudaDevice::release(void* block, size_t) noexcept { cudaFreeAsync(block, stream_.get()); }

void CudaDevice::copy_in(const void* host, void* device, size_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, current_));
}

void CudaDevice::copy_out(const void* device, void* host, size_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, current_));
  synchronize();
}

void CudaDevice::copy(const void* from, void* to, size_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current_));
}

void CudaDevice::zero(void* block, size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(block, 0, bytes, current_));
}

void CudaDevice::synchronize() { check(cudaStreamSynchronize(current_)); }

void CudaDevice::fork(int count) {
  if (forked_ > 0) throw std::logic_error("CudaDevice: forks do not nest");
  if (count < 2) return;
  const auto others = static_cast<size_t>(count - 1);
  while (branches_.size() < others) branches_.emplace_back();
  check(cudaEventRecord(fork_.get(), stream_.get()));
  forked_ = others;
  for (size_t b = 0; b < forked_; ++b) check(cudaStreamWaitEvent(branches_[b].stream.get(), fork_.get(), 0));
}

void CudaDevice::use_branch(int branch) {
  const auto index = static_cast<size_t>(branch);
  require(index <= forked_, "CudaDevice::use_branch", "there are " + std::to_string(forked_ + 1) + " branches");
  current_ = index == 0 ? stream_.get() : branches_[index - 1].stream.get();
}

int CudaDevice::mark() {
  if (marked_ == marks_.size()) marks_.push_back(make_event());
  check(cudaEventRecord(marks_[marked_].get(), current_));
  return static_cast<int>(marked_++);
}

void CudaDevice::await(int mark) {
  const auto index = static_cast<size_t>(mark);
  require(index < marked_, "CudaDevice::await", "no such mark since the last join");
  check(cudaStreamWaitEvent(current_, marks_[index].get(), 0));
}

void CudaDevice::join() {
  current_ = stream_.get();
  marked_ = 0;
  const size_t count = std::exchange(forked_, 0);
  for (size_t b = 0; b < count; ++b) {
    check(cudaEventRecord(branches_[b].done.get(), branches_[b].stream.get()));
    check(cudaStreamWaitEvent(stream_.get(), branches_[b].done.get(), 0));
  }
}

std::unique_ptr<Prefetch> CudaDevice::make_prefetch() { return std::make_unique<CudaPrefetch>(*this); }
std::unique_ptr<Readback> CudaDevice::make_readback() { return std::make_unique<CudaReadback>(*this); }

std::unique_ptr<CapturedWork> CudaDevice::capture(const std::function<void()>& body) {
  check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {  // the stream must not stay in capture
    cudaStreamEndCapture(stream_.get(), &graph);
    Graph(graph).reset();
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream_.get(), &graph));
  return std::make_unique<CudaGraph>(Graph(graph), stream_.get());
}

}  // namespace gradlibra
