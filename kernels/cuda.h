// SPDX-License-Identifier: MIT
// The CUDA executor and the one error check for the CUDA runtime. Included by .cu files and by the device side of
// runtime/ only: no contract needs it.
#pragma once

#include <cuda_runtime.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace gradlibra {

// Throws std::runtime_error "file:line: message" for any status but success.
inline void check(cudaError_t status, std::source_location at = std::source_location::current()) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(at.file_name()) + ":" + std::to_string(at.line()) + ": " +
                           cudaGetErrorString(status));
}

// Work is enqueued on one stream, which the caller owns and keeps alive.
class Cuda {
 public:
  explicit Cuda(cudaStream_t stream) : stream_(stream) {}
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

 private:
  cudaStream_t stream_;
};

}  // namespace gradlibra
