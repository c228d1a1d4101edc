// SPDX-License-Identifier: MIT
#include "runtime/device/cublaslt_plan_cache.h"

#include <map>
#include <mutex>
#include <tuple>

#include "kernels/cuda.h"

namespace gradlibra {

const CachedCublasltPlan& cached_cublaslt_plan(const CudnnProblem& problem, const CudnnOptions& options,
                                               const std::function<void(CachedCublasltPlan&)>& when_new) {
  using Key = std::tuple<int, FloatMath, ConvTuning, MatrixProducts, bool, int64_t, CudnnProblem>;
  struct Cache {
    std::mutex mutex;
    std::map<Key, CachedCublasltPlan> plans;
  };
  static Cache& all = *new Cache;  // never destroyed, as cuDNN's
  int device = 0;
  check(cudaGetDevice(&device));
  const std::lock_guard lock(all.mutex);
  const Key key{device,           options.float_math,    options.tuning,
                options.products, options.deterministic, options.workspace_limit_bytes,
                problem};
  if (const auto found = all.plans.find(key); found != all.plans.end()) return found->second;
  CachedCublasltPlan made;
  made.plan = CublasltPlan::find(problem, options, made.why);
  if (made.plan != nullptr) when_new(made);
  return all.plans.emplace(key, std::move(made)).first->second;
}

}  // namespace gradlibra
