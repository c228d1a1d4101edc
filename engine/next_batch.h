// SPDX-License-Identifier: MIT
// The next batch of a loader, with patience.
#pragma once

#include <functional>
#include <string>

#include "data/loading/loader.h"

namespace gradlibra {

// loader.next(), which is tried again for `seconds` where a file cannot be read: the folder on the network may come
// back. `waits` is called with the error before each pause, and may throw or return false to give up; then, as when the
// time is over, the ReadError is thrown.
bool next_batch(Loader& loader, Batch& batch, double seconds,
                const std::function<bool(const std::string& error)>& waits = {});

}  // namespace gradlibra
