// SPDX-License-Identifier: MIT
// Time that work takes on a device: by the clock on the host, by events on the stream of a GPU.
#pragma once

#include <memory>

#include "kernels/executor.h"

namespace gradlibra {

class Timer {
 public:
  virtual ~Timer() = default;
  virtual void start() = 0;
  // Seconds from start() to the end of all work that was enqueued since; waits for it.
  [[nodiscard]] virtual double stop() = 0;
};

// Cuda: events on the executor's stream, so that what the host does after it has enqueued the work is not measured.
[[nodiscard]] std::unique_ptr<Timer> make_timer(Cpu&);
[[nodiscard]] std::unique_ptr<Timer> make_timer(Cuda&);

}  // namespace gradlibra
