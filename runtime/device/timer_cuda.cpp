// SPDX-License-Identifier: MIT
#include <memory>

#include "runtime/device/cuda_handles.h"
#include "runtime/device/timer.h"

namespace gradlibra {

namespace {

class EventTimer final : public Timer {
 public:
  explicit EventTimer(cudaStream_t stream) : stream_(stream) {}

  void start() override { check(cudaEventRecord(start_.get(), stream_)); }
  double stop() override {
    check(cudaEventRecord(stop_.get(), stream_));
    check(cudaEventSynchronize(stop_.get()));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get()));
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_;
  Event start_ = make_event(cudaEventDefault), stop_ = make_event(cudaEventDefault);
};

}  // namespace

std::unique_ptr<Timer> make_timer(Cuda& cuda) { return std::make_unique<EventTimer>(cuda.stream()); }

}  // namespace gradlibra
