// SPDX-License-Identifier: MIT
// The cuDNN plans of this process: a plan depends on its problem, the options and the device, not on who asks. A
// training step has about two hundred, and every Context of a benchmark or a test would else make them again.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/device/cudnn_plan.h"

namespace gradlibra {

struct CachedCudnnPlan {
  std::unique_ptr<CudnnPlan> plan;  // null: no engine
  std::string why;                  // then
};

// The plan for the current device. One that is made at this call is given to `when_new` before anybody else sees it: to
// be tuned there. The result stays where it is until the process ends. Any thread.
const CachedCudnnPlan& cached_cudnn_plan(const CudnnProblem& problem, const CudnnOptions& options, CudnnEngines engines,
                                         const std::function<void(CudnnPlan&)>& when_new);

}  // namespace gradlibra
