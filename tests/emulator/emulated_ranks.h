// SPDX-License-Identifier: MIT
// Ranks with an emulated GPU each: processes, whose hosts have met. The emulator itself is for one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulator/block.h"
#include "runtime/device/context.h"
#include "runtime/distributed/tcp_group.h"
#include "tests/rank_processes.h"

namespace gradlibra::emulator_test {

// As testing::run_processes. Each rank has an order of recorded work of its own.
inline std::vector<std::string> run_ranks(int count, const std::function<std::string(HostGroup&)>& body) {
  auto listener = std::make_unique<Listener>();
  Launch launch{
      .world_size = count, .master_address = "127.0.0.1", .master_port = listener->port(), .source = "a test"};
  return testing::run_processes(count, [&](int rank) {
    launch.rank = launch.local_rank = rank;
    emulator::set_seed(emulator::seed() * static_cast<uint64_t>(count) + static_cast<uint64_t>(rank));
    if (rank != 0) listener = nullptr;
    const std::unique_ptr<HostGroup> hosts = make_tcp_group(launch, 20, std::move(listener));
    return body(*hosts);
  });
}

// The first kernel of a process reads its symbols, which takes a second: once, and not on every rank.
inline void read_symbols() { (void)Context::for_device("cuda"); }

// run_ranks() for ranks that make a context.
inline std::vector<std::string> run_gpu_ranks(int count, const std::function<std::string(HostGroup&)>& body) {
  read_symbols();
  return run_ranks(count, body);
}

}  // namespace gradlibra::emulator_test
