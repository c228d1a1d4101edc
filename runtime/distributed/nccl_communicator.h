// SPDX-License-Identifier: MIT
// Ranks with a GPU each, whose sums NCCL carries. No other file but nccl_library.* knows NCCL.
#pragma once

#include <memory>
#include <string>

#include "runtime/device/context.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

// Whether this build has NCCL.
[[nodiscard]] bool has_nccl();

// All ranks of `hosts` make one on their GPUs at the same time; hosts and context outlive it. barrier() and gather() go
// through the hosts.
//
// All collectives run on one stream of its own, in the order in which they are called, so that this order is the same
// on every rank whatever runs beside them: each comes behind what the context's stream was given before; sum() and
// broadcast() let the context's stream wait for the collective, begin_sum() leaves that to join_sums(). NCCL adds in an
// order that follows from the ranks and how they are connected: the same bits on every rank, and from run to run on the
// same machines.
//
// `timeout_seconds` is what NCCL has to connect the ranks, at the start and at later calls. std::runtime_error names
// rank, host, NCCL's call, and what NCCL says, or the time-out (PeerLost: after one nothing works any more, and what
// was enqueued is aborted); if this build has no NCCL or it cannot be loaded, what to do. One that is destroyed without
// finish() aborts what still runs. NCCL waits for graphs that have recorded its calls: they must be gone before
// finish() or the end of the communicator.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(Context& context, HostGroup& hosts,
                                                                   double timeout_seconds);

}  // namespace gradlibra
