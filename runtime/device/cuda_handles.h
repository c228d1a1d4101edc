// SPDX-License-Identifier: MIT
// CUDA handles with their one owner.
#pragma once

#include <memory>

#include "kernels/cuda.h"

namespace gradlibra {

template <auto Destroy>
struct Destroyer {
  template <class T>
  void operator()(T* handle) const noexcept {
    Destroy(handle);
  }
};
using Stream = std::unique_ptr<CUstream_st, Destroyer<cudaStreamDestroy>>;
using Event = std::unique_ptr<CUevent_st, Destroyer<cudaEventDestroy>>;
using PinnedMemory = std::unique_ptr<void, Destroyer<cudaFreeHost>>;

[[nodiscard]] inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

// For order alone; with `flags` cudaEventDefault also for times.
[[nodiscard]] inline Event make_event(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, flags));
  return Event(event);
}

[[nodiscard]] inline PinnedMemory make_pinned(size_t bytes) {
  void* block = nullptr;
  check(cudaMallocHost(&block, bytes));
  return PinnedMemory(block);
}

}  // namespace gradlibra
