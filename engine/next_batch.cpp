// SPDX-License-Identifier: MIT
#include "engine/next_batch.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/base/files.h"

namespace gradlibra {

bool next_batch(Loader& loader, Batch& batch, double seconds,
                const std::function<bool(const std::string& error)>& waits) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (std::chrono::milliseconds pause(100);; pause = std::min(2 * pause, std::chrono::milliseconds(1000))) {
    try {
      return loader.next(batch);
    } catch (const ReadError& error) {
      if (Clock::now() + pause > end || (waits && !waits(error.what()))) throw;
    }
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace gradlibra
