// SPDX-License-Identifier: MIT
// Kernels and launchers that touch memory which is not theirs.
#include "tests/emulator/kernels_under_test.h"

namespace gradlibra::emulator_test {
namespace {

// The whole block may write it, the size of it is not known where it is indexed.
__device__ void put(float* s, int i) { s[i] = 1; }

__global__ void read_past_the_end_kernel(const float* x, int n, float* y) {
  const int i = static_cast<int>(threadIdx.x);
  if (i <= n) y[0] = x[i];  // must be: i < n
}

__global__ void write_past_dynamic_shared_kernel(int n) {
  if (static_cast<int>(threadIdx.x) <= n) put(dynamic_shared<float>(), static_cast<int>(threadIdx.x));
}

__global__ void write_past_static_shared_kernel(int n) {
  __shared__ float s[48];
  if (static_cast<int>(threadIdx.x) < n) put(s, static_cast<int>(threadIdx.x));
}

__global__ void misaligned_vector_load_kernel(const float* x, float* y) {
  y[0] = reinterpret_cast<const float4*>(x + 1)->x;
}

__device__ int depth_of(volatile int* counter, int depth) {
  volatile int frame[64];
  frame[depth % 64] = depth;
  if (depth == 0) return *counter;
  return depth_of(counter, depth - 1) + frame[depth % 64];
}

__global__ void endless_recursion_kernel(int depth, int* y) { y[0] = depth_of(y, depth); }

__global__ void read_kernel(const float* x, float factor) {
  if (x[0] * factor > 1e30f) __trap();
}

}  // namespace

void read_past_the_end(Cuda& cuda, const float* x, int n, float* y) {
  launch(read_past_the_end_kernel, 1, 64, 0, cuda.stream(), x, n, y);
}
void write_past_dynamic_shared(Cuda& cuda, int n) {
  launch(write_past_dynamic_shared_kernel, 1, 64, static_cast<size_t>(n) * sizeof(float), cuda.stream(), n);
}
void write_past_static_shared(Cuda& cuda, int n) {
  launch(write_past_static_shared_kernel, 1, 64, 0, cuda.stream(), n);
}
void misaligned_vector_load(Cuda& cuda, const float* x, float* y) {
  launch(misaligned_vector_load_kernel, 1, 1, 0, cuda.stream(), x, y);
}
float launcher_reads_device_memory(Cuda& cuda, const float* x) {
  const float first = x[0];  // a segmentation fault on a GPU
  launch(read_kernel, 1, 1, 0, cuda.stream(), x, first);
  return first;
}
void endless_recursion(Cuda& cuda, int depth, int* y) {
  launch(endless_recursion_kernel, 1, 1, 0, cuda.stream(), depth, y);
}

}  // namespace gradlibra::emulator_test
