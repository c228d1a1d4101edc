// SPDX-License-Identifier: MIT
#include <memory>
#include <type_traits>

#include "kernels/cuda.h"
#include "runtime/device/timer.h"

namespace gradlibra {

namespace {

struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

Event make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event));
  return Event(event);
}

class EventTimer final : public Timer {
 public:
  explicit EventTimer(cudaStream_t stream) : stream_(stream), start_(make_event()), stop_(make_event()) {}

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
  Event start_, stop_;
};

}  // namespace

std::unique_ptr<Timer> make_timer(Cuda& cuda) { return std::make_unique<EventTimer>(cuda.stream()); }

}  // namespace gradlibra
