// SPDX-License-Identifier: MIT
// Work that each rank does for itself, with results for all, or an error for all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/distributed/communicator.h"

namespace gradlibra {

// own() of every rank, in the order of ranks, on every rank. Where it throws on any, all throw an AgreedError with the
// message of the first that did, which on the other ranks names it and its host: none is left to wait. One process
// passes its exception on as it is.
[[nodiscard]] std::vector<std::string> gather_results(Communicator& ranks, const std::function<std::string()>& own);

}  // namespace gradlibra
