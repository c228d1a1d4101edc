// SPDX-License-Identifier: MIT
// The one place where a program learns that it is a rank of several: who started it, what carries its collectives, who
// watches over it, and how all of them end.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "runtime/device/context.h"
#include "runtime/distributed/communicator.h"
#include "runtime/distributed/distributed_config.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/watchdog.h"

namespace gradlibra {

// --rank, --world-size, --local-rank, --master: for launchers that set no environment.
void add_rank_options(CLI::App& app, LaunchFlags& flags);

class Ranks {
 public:
  // Starts the communicator and the watchdog of a launch of several; one process needs neither. Messages of `app` name
  // the rank from then on. An error is std::runtime_error or, of the command line and environment,
  // std::invalid_argument.
  Ranks(CLI::App& app, const Launch& launch, const DistributedConfig& config);
  ~Ranks();

  [[nodiscard]] Communicator& communicator() { return *communicator_; }
  [[nodiscard]] Watchdog* watchdog() { return watchdog_.get(); }  // nullptr: one process
  [[nodiscard]] bool leads() const { return communicator_->rank() == 0; }
  [[nodiscard]] bool alone() const { return communicator_->world_size() == 1; }

  // body(), then the end of all ranks together. An exception of this rank alone is told to the others, which end as
  // well; one that all ranks agree on (AgreedError) closes in order. Either goes on to the caller.
  int run(const std::function<int()>& body);

  // Every rank calls it: a line for each with its host and device, one with what carries the collectives, how fast a
  // sum over ranks is, and the program's version, which must be the same (AgreedError, as for ranks on GPUs, which
  // there are none of yet). Empty for one process.
  [[nodiscard]] std::string introduction(Context& context);

 private:
  void finish();
  CLI::App& app_;
  const std::string program_;
  Launch launch_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Watchdog> watchdog_;
};

}  // namespace gradlibra
