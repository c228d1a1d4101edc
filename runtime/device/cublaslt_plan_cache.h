// SPDX-License-Identifier: MIT
// The cuBLASLt plans of this process, as runtime/device/cudnn_plan_cache.h keeps cuDNN's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/cublaslt_plan.h"

namespace gradlibra {

struct CachedCublasltPlan {
  std::unique_ptr<CublasltPlan> plan;               // null: no engine
  std::string why;                                  // then
  bool chosen = false;                              // instead of cuDNN's plan for the same problem
  double milliseconds = 0, cudnn_milliseconds = 0;  // where both were timed
};

// The plan for the current device; `when_new` is called with one that is made at this call: to be tuned, and to choose.
// Any thread.
const CachedCublasltPlan& cached_cublaslt_plan(const CudnnProblem& problem, const CudnnOptions& options,
                                               const std::function<void(CachedCublasltPlan&)>& when_new);

}  // namespace gradlibra
