// SPDX-License-Identifier: MIT
// The emulator has no profiler.
#include "runtime/device/profiling.h"

namespace gradlibra {

Range::Range(const char*) {}
Range::~Range() = default;

}  // namespace gradlibra
