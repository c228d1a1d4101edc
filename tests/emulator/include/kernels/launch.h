// SPDX-License-Identifier: MIT
// Twin of kernels/launch.h for the emulator: the same names, but every thread of every block runs on the host.
#pragma once

#include <source_location>
#include <type_traits>

#include "kernels/cuda.h"

namespace gradlibra {

template <class T>
__device__ T* dynamic_shared() {
  return static_cast<T*>(emulator::dynamic_shared_memory());
}

namespace emulator {

// A dim3 that knows where it was made: it stands in the launcher's call of launch(), so messages can name that line.
struct LocatedGrid {
  dim3 grid;
  std::source_location where;
  LocatedGrid(dim3 grid_, std::source_location at = std::source_location::current()) : grid(grid_), where(at) {}
  LocatedGrid(unsigned x, unsigned y = 1, unsigned z = 1, std::source_location at = std::source_location::current())
      : grid(x, y, z), where(at) {}
};

template <class T>
void require_device_argument(const T& value, int argument, const Geometry& geometry) {
  if constexpr (std::is_pointer_v<T>) require_device_pointer(value, argument, geometry);
}

}  // namespace emulator

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), emulator::LocatedGrid grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Args... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "the kernel takes another number of arguments");
  const emulator::Geometry geometry{grid.grid, block, shared_bytes, reinterpret_cast<const void*>(kernel), grid.where};
  int argument = 0;
  (emulator::require_device_argument<Params>(static_cast<Params>(args), argument++, geometry), ...);
  auto start = [=] {
    auto body = [&] { kernel(static_cast<Params>(args)...); };
    emulator::run(
        geometry, [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  };
  if (!emulator::record(stream, start)) start();
}

inline unsigned blocks_for(long long n, int block) { return static_cast<unsigned>((n + block - 1) / block); }

}  // namespace gradlibra
