// SPDX-License-Identifier: MIT
// Marks a function that host and device code share.
#pragma once

#ifdef __CUDACC__
#define GRADLIBRA_HOST_DEVICE __host__ __device__
#else
#define GRADLIBRA_HOST_DEVICE
#endif
