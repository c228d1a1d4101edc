// SPDX-License-Identifier: MIT
// Ranks as MPI processes, on host memory. No other file calls MPI.
#pragma once

#include <memory>

#include "runtime/distributed/communicator.h"
#include "runtime/distributed/launch.h"

namespace gradlibra {

// Whether this build has MPI.
[[nodiscard]] bool has_mpi();

// Starts MPI in this process and takes all that it started together. Sums are added in the order of ranks, each part of
// an array by one rank, which then tells the others: the same bits on every rank, and in every run with as many ranks,
// whatever MPI's own reductions would do. Long arrays go in pieces, so that the buffers stay small and no count
// leaves an int.
//
// Only the thread that made it may call it. std::runtime_error names rank, host and MPI's call if one fails; and if MPI
// started another number of processes than `launch` says, or is not in this build, what to do. Once a process.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const Launch& launch);

}  // namespace gradlibra
