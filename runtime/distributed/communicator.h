// SPDX-License-Identifier: MIT
// What crosses the ranks of a data-parallel job. One process here; mpi_communicator.h and nccl_communicator.h: several.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/view.h"

namespace gradlibra {

// An error that every rank throws at the same point, so that none waits for another: all can still close in order.
struct AgreedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What another rank was needed for has failed. Who was lost, and why, the watchdog may know better, a moment later.
struct PeerLost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the hosts of a job's ranks tell each other. Every rank makes the same calls in the same order; they wait for the
// slowest rank, never for a device, and are not recorded. One thread at a time.
class HostGroup {
 public:
  virtual ~HostGroup() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world_size() const = 0;
  virtual void barrier() = 0;
  // What every rank gives, in the order of ranks, on every rank. Lengths may differ, each up to 2^40 bytes.
  [[nodiscard]] virtual std::vector<std::string> gather(const std::string& own) = 0;
  // The orderly end: every rank calls it once, and nothing after it. One that is destroyed without waits for nobody.
  virtual void finish() {}
  // What carries it, with its version; empty for one process.
  [[nodiscard]] virtual std::string library() const { return ""; }
};

// An implementation is made on a Context and works on memory of that context's device: every call comes behind what was
// enqueued on its stream before and in front of what is enqueued after, may be recorded (Context::capture), and does
// not wait for the device. Every rank makes the same calls in the same order with the same sizes, also one that has
// nothing to add. What is between hosts is HostGroup's.
class Communicator : public HostGroup {
 public:
  // Elementwise sum over ranks, in place, in a fixed order, with the same bits on every rank: gradients; counts, losses
  // and their state.
  virtual void sum(View<float> values) = 0;
  virtual void sum(View<double> values) = 0;
  // The same, beside the stream: behind what was enqueued before, in front of nothing until join_sums(), after which
  // all sums that were begun are in front of what comes. Meanwhile nobody touches `values`. Sums are made in the order
  // in which they were begun.
  virtual void begin_sum(View<float> values) { sum(values); }
  virtual void join_sums() {}
  // To all ranks what `root` holds.
  virtual void broadcast(View<float> values, int root) = 0;
  // Memory of the device, with undefined values, whose sums need no copy on the way, for as long as this lives; empty
  // where there is none better than any other. Every rank calls it, outside of a recording, with the same size.
  [[nodiscard]] virtual View<float> memory_for_sums(int64_t /*size*/) { return {nullptr, {0}}; }
  // Why collectives that were enqueued will never end, as a message that names the rank; empty while all is well. Any
  // thread may ask, at any time, but while finish() runs.
  [[nodiscard]] virtual std::string failure() { return ""; }
};

class SingleProcess final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 1; }
  void sum(View<float>) override {}
  void sum(View<double>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
  [[nodiscard]] std::vector<std::string> gather(const std::string& own) override { return {own}; }
};

}  // namespace gradlibra
