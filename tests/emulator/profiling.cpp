// SPDX-License-Identifier: MIT
// The emulator has no profiler.
#include "runtime/profiling.h"

namespace gradlibra {

Range::Range(const char*) {}
Range::~Range() = default;

}  // namespace gradlibra
