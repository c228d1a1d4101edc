// SPDX-License-Identifier: MIT
// What lets a training step run on a device without the host waiting for it: batches that travel ahead, results that
// come back later, and a step that is recorded once and replayed. On a host each of them happens at once.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/device/tensor.h"

namespace gradlibra {

// Host data on its way to tensors while earlier work still reads what they hold.
class Prefetch {
 public:
  virtual ~Prefetch() = default;
  struct Item {
    const void* host;
    Tensor* to;  // as many bytes as it has are copied
  };
  // Starts the way of these items. Their host memory may be reused on return; the tensors change when deliver() is
  // called.
  virtual void stage(std::span<const Item> items) = 0;
  // The staged items arrive in their tensors behind all work enqueued so far and before what is enqueued next.
  virtual void deliver() = 0;
};

// Values on their way back: start() enqueues a copy, wait() waits for the oldest one that nobody has waited for.
class Readback {
 public:
  static constexpr int kPending = 2;  // copies that may be under way
  virtual ~Readback() = default;
  virtual void start(const Tensor& doubles) = 0;
  [[nodiscard]] virtual std::vector<double> wait() = 0;
};

// Enqueued work that can be enqueued again as it was, with the same memory.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  virtual void launch() = 0;
};

}  // namespace gradlibra
