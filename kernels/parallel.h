// SPDX-License-Identifier: MIT
// Threads for the host kernels. Work is cut into chunks whose bounds depend on the problem only, never on the
// number of threads, so a reduction that combines chunk results in order gives the same bits on any machine.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

#include "kernels/executor.h"

namespace gradlibra {

// Number of chunks of `grain` items (the last may be shorter) that cover n items.
constexpr int64_t chunk_count(int64_t n, int64_t grain) { return (n + grain - 1) / grain; }

// Calls body(chunk, begin, end) for every chunk of [0, n); chunks run in parallel, each on one thread.
// An exception thrown by a body is rethrown here after all chunks have ended (the first by chunk order is not
// guaranteed, one of them is).
template <class Body>
void parallel_chunks(Cpu& cpu, int64_t n, int64_t grain, Body&& body) {
  const int64_t chunks = chunk_count(n, grain);
  if (chunks <= 1) {
    if (chunks == 1) body(0, 0, n);
    return;
  }
  // One thread takes the same way: a compiler that inlines the body twice may order its sums differently.
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu.threads())
  for (int64_t c = 0; c < chunks; ++c) {
    try {
      body(c, c * grain, std::min(n, (c + 1) * grain));
    } catch (...) {
#pragma omp critical(gradlibra_parallel_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// Calls body(i) for every i in [0, n), about `grain` of them per task. For bodies that write disjoint elements.
template <class Body>
void parallel_for(Cpu& cpu, int64_t n, int64_t grain, Body&& body) {
  parallel_chunks(cpu, n, grain, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace gradlibra
