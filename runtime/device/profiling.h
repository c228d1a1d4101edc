// SPDX-License-Identifier: MIT
// Named stretches of the program for Nsight Systems and Nsight Compute (NVTX), and where they start and stop to record.
// Nothing of it does anything in a build without CUDA, and next to nothing when no profiler is attached.
// docs/profiling.md
#pragma once

namespace gradlibra {

class Context;

// From construction to destruction, on this host thread; ranges nest. On a GPU it covers the launches, and the profiler
// finds the kernels that belong to them. The name must outlive the range.
class Range {
 public:
  explicit Range(const char* name);
  ~Range();  // NOLINT(performance-trivially-destructible): only where there is no NVTX
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

// body() inside a range; returns what it returns.
template <class Body>
decltype(auto) profiled(const char* name, Body&& body) {
  const Range range(name);
  return body();
}

// For profilers that were told to wait for the program (nsys profile --capture-range=cudaProfilerApi). All earlier work
// of the context has ended when recording starts, and all work since when it stops. Nothing happens on the host.
void profiler_start(Context& context);
void profiler_stop(Context& context);

}  // namespace gradlibra
