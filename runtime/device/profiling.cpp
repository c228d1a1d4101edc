// SPDX-License-Identifier: MIT
#include "runtime/device/profiling.h"

#ifdef GRADLIBRA_HAVE_CUDA
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include "runtime/device/context.h"
#endif

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_CUDA

// The result is the depth of nesting, or negative without a profiler: neither matters here.
Range::Range(const char* name) { nvtxRangePushA(name); }
Range::~Range() { nvtxRangePop(); }

void profiler_start(Context& context) {
  if (context.on_host()) return;
  context.synchronize();
  check(cudaProfilerStart());
}

void profiler_stop(Context& context) {
  if (context.on_host()) return;
  context.synchronize();
  check(cudaProfilerStop());
}

#else

Range::Range(const char*) {}
Range::~Range() = default;

void profiler_start(Context&) {}
void profiler_stop(Context&) {}

#endif

}  // namespace gradlibra
