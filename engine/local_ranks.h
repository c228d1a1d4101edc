// SPDX-License-Identifier: MIT
// Several ranks on this machine, started by one command.
#pragma once

#include <string>
#include <vector>

namespace gradlibra {

// Runs this program `count` times with `arguments`, as ranks, and waits for all: processes of this one, in torchrun's
// environment, where there are GPUs and `may_use_gpus`; else by mpirun. The first signal that would end this process
// (SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2) goes to every rank as SIGUSR1, whose training then leaves
// together with a checkpoint; a second one, unless it comes within a quarter of a second, ends them at once. A rank
// that fails ends the others, by force if they have not ended by themselves. Nothing is left running, whatever ends
// this process.
//
// What the ranks came to: their exit code, the first that was not 0, if one has another, not 5 (kLostRank); 130 if
// SIGINT made them leave in order; 128 + n if signal n ended one, other than by this function's own force.
// std::runtime_error if there are fewer GPUs than ranks, unless they `share_gpus`; or if this build has no NCCL, or on
// CPUs no MPI, or mpirun is not found.
[[nodiscard]] int run_local_ranks(int count, bool may_use_gpus, bool share_gpus,
                                  const std::vector<std::string>& arguments);

}  // namespace gradlibra
