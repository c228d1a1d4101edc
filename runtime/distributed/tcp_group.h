// SPDX-License-Identifier: MIT
// Hosts that meet over TCP, where no MPI started the ranks.
#pragma once

#include <memory>

#include "runtime/distributed/communicator.h"
#include "runtime/distributed/launch.h"
#include "runtime/distributed/tcp.h"

namespace gradlibra {

// All ranks of `launch` meet at launch.master_address and master_port, where rank 0 listens (with `listener`, if it is
// given one) and all others come, in any order, within `timeout_seconds` from when a rank calls this. What they tell
// each other goes through rank 0.
//
// Whoever comes must say that it is a rank of this launch: same number of ranks, same job, a rank that nobody else has.
// Others are told why they are refused and are waited for no longer. std::runtime_error on a rank that is refused; on
// all that came, when one did not: which ones, by number, where it was tried, and who was refused; and on rank 0 when
// the port is taken. Later, PeerLost names a rank whose connection closes.
[[nodiscard]] std::unique_ptr<HostGroup> make_tcp_group(const Launch& launch, double timeout_seconds,
                                                        std::unique_ptr<Listener> listener = nullptr);

}  // namespace gradlibra
