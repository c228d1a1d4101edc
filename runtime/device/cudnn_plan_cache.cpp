// SPDX-License-Identifier: MIT
#include "runtime/device/cudnn_plan_cache.h"

#include <map>
#include <mutex>
#include <tuple>

#include "kernels/cuda.h"
#include "runtime/device/cudnn_handle.h"

namespace gradlibra {

namespace {

struct Cache {
  using Key = std::tuple<int, FloatMath, ConvTuning, bool, int64_t, CudnnEngines, CudnnProblem>;
  std::mutex mutex;
  std::map<int, CudnnHandle> handles;  // by device: plans are made with these, and may outlive those of a Context
  std::map<Key, CachedCudnnPlan> plans;
};

// Shared by all contexts, as the choices for cuBLASLt are: what it holds depends on nothing but its key, so no context
// can tell who asked first, and benchmarks and tests make dozens. Never destroyed: at the end of the process the driver
// may be gone before it.
Cache& cache() {
  static Cache& only = *new Cache;
  return only;
}

}  // namespace

const CachedCudnnPlan& cached_cudnn_plan(const CudnnProblem& problem, const CudnnOptions& options, CudnnEngines engines,
                                         const std::function<void(CudnnPlan&)>& when_new) {
  int device = 0;
  check(cudaGetDevice(&device));
  Cache& all = cache();
  const std::lock_guard lock(all.mutex);
  const Cache::Key key{
      device, options.float_math, options.tuning, options.deterministic, options.workspace_limit_bytes, engines,
      problem};
  if (const auto found = all.plans.find(key); found != all.plans.end()) return found->second;
  CudnnHandle& handle = all.handles[device];
  if (handle == nullptr) handle = make_cudnn_handle(nullptr);
  CachedCudnnPlan made;
  made.plan = CudnnPlan::find({.handle = handle.get()}, problem, options, engines, made.why);
  if (made.plan != nullptr) when_new(*made.plan);
  return all.plans.emplace(key, std::move(made)).first->second;
}

}  // namespace gradlibra
