// SPDX-License-Identifier: MIT
// What crosses the ranks of a data-parallel job. One process here; other implementations share the interface.
#pragma once

#include "kernels/view.h"

namespace gradlibra {

// An implementation is made on a Context and works on memory of that context's device: every call comes behind what was
// enqueued on its stream before and in front of what is enqueued after, may be recorded (Context::capture), and does
// not wait for the device. Every rank makes the same calls in the same order with the same sizes, also one that has
// nothing to add.
class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world_size() const = 0;
  // Elementwise sum over ranks, in place, in a fixed order, with the same bits on every rank: gradients; counts, losses
  // and their state.
  virtual void sum(View<float> values) = 0;
  virtual void sum(View<double> values) = 0;
  // To all ranks what `root` holds.
  virtual void broadcast(View<float> values, int root) = 0;
  virtual void barrier() = 0;
};

class SingleProcess final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 1; }
  void sum(View<float>) override {}
  void sum(View<double>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
};

}  // namespace gradlibra
