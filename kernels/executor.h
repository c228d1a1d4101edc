// SPDX-License-Identifier: MIT
// Where a kernel runs. Every kernel has two overloads, one per executor, with the same arguments behind it.
#pragma once

#include <cstdint>

namespace gradlibra {

// The host: a number of OpenMP threads. Results never depend on that number (kernels/parallel.h).
class Cpu {
 public:
  // threads <= 0: as many as OpenMP would use (OMP_NUM_THREADS, or the cores this process may run on).
  explicit Cpu(int threads = 0);
  [[nodiscard]] int threads() const { return threads_; }

 private:
  int threads_;
};

// A CUDA stream (kernels/cuda.h). Only declared here, so that a contract can name it in a build without CUDA.
class Cuda;

namespace kernels {

// The size of a workspace that a kernel's host version does without.
constexpr int64_t for_device(const Cpu&, int64_t) { return 0; }
constexpr int64_t for_device(const Cuda&, int64_t size) { return size; }

}  // namespace kernels

}  // namespace gradlibra
