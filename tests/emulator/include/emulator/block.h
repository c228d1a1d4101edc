// SPDX-License-Identifier: MIT
// Runs the threads of a launch on the host, block after block: each thread is a fiber, and every barrier and warp
// operation is a point where another thread may go on. Blocks, warps and threads run in an order drawn from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <stdexcept>
#include <string>

#include "emulator/vector_types.h"

// The running thread, as kernels see it.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

namespace gradlibra::emulator {

// A launch that CUDA would refuse, or that has no defined result on a GPU. The message names the launch, the thread and
// the seed.
class LaunchError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Geometry {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic shared memory
  const void* kernel = nullptr;
  std::source_location where;
};

// Limits that hold for every GPU since compute capability 5.0 (Programming Guide, "Technical Specifications").
inline constexpr unsigned kMaxThreads = 1024;
inline constexpr unsigned kMaxBlockZ = 64;
inline constexpr unsigned kMaxGridX = 0x7fffffffu;
inline constexpr unsigned kMaxGridYZ = 65535;
inline constexpr size_t kMaxSharedBytes = 48 * 1024;  // static and dynamic, without cudaFuncSetAttribute

// Calls body(context) once per thread, on the calling host thread; only one of those may use the emulator at a time.
// Throws LaunchError, or what a thread threw.
void run(const Geometry& geometry, void (*body)(void* context), void* context);

// Dynamic shared memory of the running block: exactly shared_bytes, 16-byte aligned, filled with garbage at its start.
void* dynamic_shared_memory();

// Throws LaunchError unless `pointer` is null or points into (or to the end of) memory from cudaMalloc.
void require_device_pointer(const void* pointer, int argument, const Geometry& geometry);

// The order of everything follows from this number and from how many launches came since it was set. It starts as the
// environment's GRADLIBRA_EMULATOR_SEED, or 0.
void set_seed(uint64_t seed);
uint64_t seed();

// Runs check() under seeds first, first + 1, ..., then restores the seed.
template <class Check>
void run_with_seeds(int count, Check&& check, uint64_t first = 1) {
  const uint64_t before = seed();
  for (uint64_t s = first; s < first + static_cast<uint64_t>(count); ++s) {
    set_seed(s);
    check();
  }
  set_seed(before);
}

// What the device functions are made of. --------------------------------------------------------------------------

enum class WarpOp { sync, shuffle_index, shuffle_up, shuffle_down, shuffle_xor, ballot, match };

// Waits for all threads of the block; returns the number of threads that came with a true predicate.
unsigned block_barrier(bool predicate, std::source_location where);

// Waits for the lanes in `mask`, then gives each lane its result: a lane's value (shuffle_*), the lanes with a value
// other than 0 (ballot), the lanes with the same value (match).
uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, int operand, int width, std::source_location where);

// Lanes of the running warp that have not exited.
unsigned active_lanes();
[[noreturn]] void trap(std::source_location where);

}  // namespace gradlibra::emulator
