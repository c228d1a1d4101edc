// SPDX-License-Identifier: MIT
// CUDA's declaration qualifiers, as the host compiler is to read them.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))

// One block runs at a time, so one copy is enough.
#define __shared__ static
