// SPDX-License-Identifier: MIT
// Kernels whose barriers and warp operations are not reached by all that they name.
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::emulator_test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void exit_before_barrier_kernel() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}

__global__ void barrier_in_a_branch_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void two_different_barriers_kernel() {
  if (threadIdx.x < 32) {  // NOLINT(bugprone-branch-clone): what is broken
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void barrier_and_shuffle_kernel() {
  if (threadIdx.x == 0) __syncthreads();
  __shfl_sync(kAll, 1, 0);
  if (threadIdx.x != 0) __syncthreads();
}

__global__ void shuffle_after_exit_kernel(int n) {
  if (static_cast<int>(threadIdx.x) >= n - 3) return;
  __shfl_down_sync(kAll, 1.0f, 1);
}

__global__ void shuffle_in_a_branch_kernel() {
  if (threadIdx.x % 2 == 0) {  // NOLINT(bugprone-branch-clone): what is broken
    __shfl_xor_sync(kAll, 1, 2);
  } else {
    __shfl_xor_sync(kAll, 1, 2);
  }
}

__global__ void shuffle_with_different_masks_kernel() { __shfl_sync(threadIdx.x % 32 < 16 ? 0x0000ffffu : kAll, 1, 0); }

__global__ void shuffle_outside_mask_kernel() { __shfl_sync(0x0000ffffu, 1, 0); }

__global__ void trap_kernel() {
  if (threadIdx.x == 7) __trap();
}

}  // namespace

void exit_before_barrier(Cuda& cuda, int n) {
  launch(exit_before_barrier_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void barrier_in_a_branch(Cuda& cuda, int n) {
  launch(barrier_in_a_branch_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void two_different_barriers(Cuda& cuda, int n) {
  launch(two_different_barriers_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void barrier_and_shuffle(Cuda& cuda, int n) {
  launch(barrier_and_shuffle_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void shuffle_after_exit(Cuda& cuda, int n) {
  launch(shuffle_after_exit_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream(), n);
}
void shuffle_in_a_branch(Cuda& cuda, int n) {
  launch(shuffle_in_a_branch_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void shuffle_with_different_masks(Cuda& cuda, int n) {
  launch(shuffle_with_different_masks_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void shuffle_outside_mask(Cuda& cuda, int n) {
  launch(shuffle_outside_mask_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream());
}
void trap(Cuda& cuda, int n) { launch(trap_kernel, 2, static_cast<unsigned>(n), 0, cuda.stream()); }

}  // namespace gradlibra::emulator_test
