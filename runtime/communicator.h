// SPDX-License-Identifier: MIT
// What crosses the ranks of a data-parallel job. One process here; other implementations share the interface.
#pragma once

#include "runtime/tensor.h"

namespace gradlibra {

class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world_size() const = 0;
  // Elementwise sum over ranks, in place, in a fixed order: float (gradients) or double (counts, loss state). Every rank must call it
  // with the same size, also one that has nothing to add.
  virtual void all_reduce_sum(Tensor& values) = 0;
  virtual void broadcast(Tensor& values, int root) = 0;
  virtual void barrier() = 0;
};

class SingleProcess final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 1; }
  void all_reduce_sum(Tensor&) override {}
  void broadcast(Tensor&, int) override {}
  void barrier() override {}
};

}  // namespace gradlibra
