// SPDX-License-Identifier: MIT
// The project's one way to start a CUDA kernel. tests/emulator/include/kernels/launch.h is its twin of the same name:
// found first on the include path of the emulator build, it runs every thread of every block on the host.
#pragma once

#include <source_location>

#include "kernels/cuda.h"

namespace gradlibra {

// Dynamic shared memory of the running block, as T. Sized by `shared_bytes` of launch().
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char gradlibra_dynamic_shared[];
  return reinterpret_cast<T*>(gradlibra_dynamic_shared);
}

// Enqueues kernel<<<grid, block, shared_bytes, stream>>>(args...) and throws if the launch was refused.
// An empty grid is an error: launchers return early when there is no work.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, Args... args) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Params>(args)...);
  check(cudaGetLastError());
}

// Blocks of `block` threads that cover n items.
inline unsigned blocks_for(long long n, int block) { return static_cast<unsigned>((n + block - 1) / block); }

}  // namespace gradlibra
