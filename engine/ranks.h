// SPDX-License-Identifier: MIT
// The one place where a program learns that it is a rank of several: who started it, what carries its collectives, who
// watches over it, and how all of them end.
#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/context.h"
#include "runtime/distributed/communicator.h"
#include "runtime/distributed/deadline.h"
#include "runtime/distributed/distributed_config.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/watchdog.h"

namespace gradlibra {

// --rank, --world-size, --local-rank, --master, --share-gpus: for launchers that set no environment.
void add_rank_options(CLI::App& app, LaunchFlags& flags);

// What a ring moves past each rank when all sum an array: nccl-tests' "bus bandwidth", in bytes per second.
[[nodiscard]] double bus_bandwidth(double bytes, int ranks, double seconds);

class Ranks {
 public:
  // Lets the hosts of a launch of several meet, by MPI where it started them and this build has it, else over TCP, and
  // starts the watchdog; one process needs neither. Messages of `app` name the rank from then on. before_leaving is
  // called on the watchdog's thread when another rank is lost, before this process ends in the middle of its work. An
  // error is std::runtime_error or, of the command line and environment, std::invalid_argument.
  Ranks(CLI::App& app, const Launch& launch, const DistributedConfig& config,
        const std::function<void()>& before_leaving = {});
  ~Ranks();

  [[nodiscard]] Watchdog* watchdog() { return watchdog_.get(); }  // nullptr: one process
  [[nodiscard]] bool leads() const { return launch_.rank == 0; }
  [[nodiscard]] bool alone() const { return launch_.world_size == 1; }

  // Every rank calls it once, with its own device, which outlives this: makes the communicator, over NCCL for GPUs and
  // MPI for CPUs. What to print about it: a line for each rank with its host, device and bus, one with what carries the
  // collectives, and how fast a sum over ranks is; empty for one process. AgreedError if the ranks are not of one
  // version of the program, some have a GPU and others none, two of a host have the same GPU though nobody said that
  // they may, or nothing can carry their sums.
  [[nodiscard]] std::string connect(Context& context);
  [[nodiscard]] Communicator& communicator() { return *communicator_; }  // after connect()

  // body(), then the end of all ranks together. An exception of this rank alone is told to the others, which end as
  // well; one that all ranks agree on (AgreedError) closes in order. Either goes on to the caller. PeerLost does not:
  // once it is known whose fault it was this process ends with kLostRank, as the others.
  int run(const std::function<int()>& body);
  // Within it, for the work that fails: its exception is told before what it leaves behind is torn down, which may hang
  // on a broken device. Half a minute later at most this process has ended.
  template <class Work>
  auto watched(Work&& work) {
    try {
      return work();
    } catch (const std::exception& error) {
      tell(error);
      throw;
    }
  }

 private:
  void finish();
  void tell(const std::exception& error);
  // Until it is reset, no end of what is being done within `seconds` ends the process, with `why`.
  void limit(double seconds, const std::string& why);
  void require_one_version();
  // Each rank's device by name.
  std::vector<std::string> require_one_kind(const Context& context);
  void require_own_gpus(const Context& context);
  CLI::App& app_;
  const std::string program_;
  Launch launch_;
  const double start_timeout_, timeout_;
  bool told_ = false;
  std::unique_ptr<HostGroup> tcp_;  // where no MPI started the ranks
  std::unique_ptr<Communicator> mpi_;
  HostGroup* hosts_ = nullptr;  // one of the two; none: one process
  std::unique_ptr<Communicator> nccl_;
  SingleProcess single_;
  Communicator* communicator_ = nullptr;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Deadline> deadline_;  // where the watchdog does not look: before it, and behind it
};

}  // namespace gradlibra
