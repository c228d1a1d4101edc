// SPDX-License-Identifier: MIT
// One warp, one product: device memory to shared memory to the lanes' registers, and back by hand.
#include "kernels/convolution/tensor_core.h"

#include "kernels/convolution/tensor_core.cuh"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void __launch_bounds__(32)
    multiply_tile_kernel(const bfloat16* __restrict__ a, const bfloat16* __restrict__ b, float* __restrict__ d) {
  __shared__ uint4 shared_a[16][2], shared_b[8][2];  // a row is two chunks of eight values
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, q = lane % 4;
  begin_copy(&shared_a[lane / 2][lane % 2], a + 8 * lane, true);
  if (lane < 16) begin_copy(&shared_b[lane / 2][lane % 2], b + 8 * lane, true);
  wait_for_copies();
  __syncthreads();

  // Matrices 0 to 3 are a's quarters: upper left, lower left, upper right, lower right. b has two: columns 0 to 7, and
  // 8 to 15.
  unsigned of_a[4], of_b[4];
  load_matrices(of_a, &shared_a[lane % 16][lane / 16]);
  load_matrices(of_b, &shared_b[lane % 8][lane / 8 % 2]);
  const unsigned two[2] = {of_b[0], of_b[1]};
  float* const row = d + g * 8 + 2 * q;
  float sums[4] = {row[0], row[1], row[64], row[65]};  // 64: eight rows on
  mma_bf16(sums, of_a, two);
  row[0] = sums[0], row[1] = sums[1], row[64] = sums[2], row[65] = sums[3];
}

}  // namespace

void multiply_tile(Cuda& cuda, View<const bfloat16> a, View<const bfloat16> b, View<float> d) {
  check_multiply_tile(a, b, d);
  require(aligned(a.data(), b.data()), "multiply_tile", "a and b must be aligned to 16 bytes");
  launch(multiply_tile_kernel, 1, 32, 0, cuda.stream(), a.data(), b.data(), d.data());
}

}  // namespace gradlibra::kernels
