// SPDX-License-Identifier: MIT
#include "kernels/executor.h"

#include <omp.h>

#include <algorithm>

namespace gradlibra {

// OpenMP starts as many threads as this process has processors in its affinity mask.
Cpu::Cpu(int threads) : threads_(threads > 0 ? threads : std::max(1, omp_get_max_threads())) {}

}  // namespace gradlibra
