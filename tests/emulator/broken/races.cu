// SPDX-License-Identifier: MIT
// Kernels that read what another thread has not yet written, or has already written again.
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::kernels {

template <class T>
__device__ T unwritten(T v) {
  __shared__ T sum;
  // missing: if (threadIdx.x == 0) sum = 0
  __syncthreads();
  atomicAdd(&sum, v);
  __syncthreads();
  return sum;
}

}  // namespace gradlibra::kernels

namespace gradlibra::emulator_test {
namespace {

__global__ void reverse_without_barrier_kernel(const int* x, int* y) {
  __shared__ int s[256];
  s[threadIdx.x] = x[threadIdx.x];
  // missing: __syncthreads()
  y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

__global__ void rotate_without_second_barrier_kernel(const int* x, int* y) {
  __shared__ int s[256];
  int v = x[threadIdx.x];
  for (int step = 0; step < 3; ++step) {
    s[threadIdx.x] = v;
    __syncthreads();
    v = s[(threadIdx.x + 1) % blockDim.x];
    // missing: __syncthreads(), before the next step overwrites what a neighbour has yet to read
  }
  y[threadIdx.x] = v;
}

__global__ void warp_exchange_without_syncwarp_kernel(const int* x, int* y) {
  __shared__ int s[256];
  s[threadIdx.x] = x[threadIdx.x];
  // missing: __syncwarp(); warps have not run in lockstep since Volta
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}

__global__ void read_of_unwritten_static_kernel(int* y) {
  __shared__ int sum;
  // missing: if (threadIdx.x == 0) sum = 0
  __syncthreads();
  atomicAdd(&sum, 0);
  __syncthreads();
  y[threadIdx.x] = sum;
}

__global__ void read_of_unwritten_inline_kernel(int* y) { y[threadIdx.x] = kernels::unwritten(0); }

__global__ void read_of_unwritten_dynamic_kernel(int* y) {
  int* s = dynamic_shared<int>();
  // missing: s[threadIdx.x] = 0
  atomicAdd(&s[threadIdx.x], 0);
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void add_without_atomics_kernel(int* y) {
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const int old = sum;
  __syncwarp();
  sum = old + 1;
  __syncthreads();
  y[threadIdx.x] = sum;
}

}  // namespace

void reverse_without_barrier(Cuda& cuda, const int* x, int n, int* y) {
  launch(reverse_without_barrier_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), x, y);
}
void rotate_without_second_barrier(Cuda& cuda, const int* x, int n, int* y) {
  launch(rotate_without_second_barrier_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), x, y);
}
void warp_exchange_without_syncwarp(Cuda& cuda, const int* x, int n, int* y) {
  launch(warp_exchange_without_syncwarp_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), x, y);
}
void read_of_unwritten_static(Cuda& cuda, int n, int* y) {
  launch(read_of_unwritten_static_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), y);
}
void read_of_unwritten_inline(Cuda& cuda, int n, int* y) {
  launch(read_of_unwritten_inline_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), y);
}
void read_of_unwritten_dynamic(Cuda& cuda, int n, int* y) {
  launch(read_of_unwritten_dynamic_kernel, 1, static_cast<unsigned>(n), static_cast<size_t>(n) * sizeof(int),
         cuda.stream(), y);
}
void add_without_atomics(Cuda& cuda, int n, int* y) {
  launch(add_without_atomics_kernel, 1, static_cast<unsigned>(n), 0, cuda.stream(), y);
}

}  // namespace gradlibra::emulator_test
