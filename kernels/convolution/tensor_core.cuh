// SPDX-License-Identifier: MIT
// Device side: the four instructions that a matrix product on tensor cores is made of (PTX ISA, "Warp-level matrix
// instructions" and "Asynchronous copy"), and for the emulator the same mathematics in C++. All 32 lanes of a warp must
// call the first two together, in blocks that are numbered by threadIdx.x alone.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/bfloat16.h"
#include "kernels/launch.h"

namespace gradlibra::kernels {

// d (16 x 8) += a (16 x 16) * b (16 x 8), products of bfloat16 summed in float. The matrices are spread over the lanes
// of a warp; with g = lane / 4 and q = lane % 4, a lane holds (a register of a or b has two bfloat16, the first in its
// low half)
//
//            columns 2q, 2q+1    columns 2q+8, 2q+9              column g                       columns 2q, 2q+1
//   a  row g      a[0]                a[2]         b  rows 2q, 2q+1    b[0]      d  row g          d[0], d[1]
//      row g+8    a[1]                a[3]            rows 2q+8, 2q+9  b[1]         row g+8        d[2], d[3]
//
// So the four lanes of equal g hold two rows of a and of d, and a column of b. The order of the 16 additions is the
// hardware's own.
__device__ inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDA_ARCH__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  // Each lane shows its registers to the others: far fewer switches than the 24 shuffles that would fetch them.
  struct Fragments {
    unsigned a[4], b[2];
  };
  __shared__ Fragments of_lane[32][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, q = lane % 4;
  Fragments(&warp)[32] = of_lane[threadIdx.x / 32];
  std::memcpy(warp[lane].a, a, sizeof(a));
  std::memcpy(warp[lane].b, b, sizeof(b));
  __syncwarp();
  const auto half = [](unsigned word, int k) {
    return to_float(bfloat16{static_cast<uint16_t>(k % 2 == 0 ? word & 0xffffu : word >> 16)});
  };
  for (int k = 0; k < 16; ++k) {
    const int high = k / 8, holder = k % 8 / 2;  // which register, and which lane of the four
    for (int i = 0; i < 4; ++i) {
      const unsigned row = warp[4 * g + holder].a[2 * high + i / 2],
                     column = warp[4 * (2 * q + i % 2) + holder].b[high];
      d[i] += half(row, k) * half(column, k);
    }
  }
  __syncwarp();
#endif
}

// Four 8 x 8 matrices of bfloat16 from shared memory, spread as mma_bf16 wants them: r[m] of a lane is row lane / 4,
// columns 2 (lane % 4) and the next, of matrix m. Lane 8 m + i says where row i of matrix m begins: 16 bytes, aligned
// to as much. The eight rows of a matrix are read at once, so they should lie in different banks.
__device__ inline void load_matrices(unsigned (&r)[4], const void* row) {
#ifdef __CUDA_ARCH__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  const unsigned lane = threadIdx.x % 32;
  for (int m = 0; m < 4; ++m) {
    const auto from =
        __shfl_sync(0xffffffffu, reinterpret_cast<unsigned long>(row), 8 * m + static_cast<int>(lane) / 4);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): a shuffle knows no pointers
    r[m] = reinterpret_cast<const unsigned*>(from)[lane % 4];
  }
#endif
}

// Begins to copy 16 bytes from device to shared memory, past the registers and L1; zeros without `valid`, and then
// `from` is not read. Done for the calling thread behind wait_for_copies(), for the block behind the barrier after
// that; in the emulator at once, so that it does not notice a missing wait.
__device__ inline void begin_copy(uint4* shared, const void* from, bool valid) {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))), "l"(__cvta_generic_to_global(from)),
                 "r"(valid ? 16 : 0)
               : "memory");
#else
  *shared = valid ? *static_cast<const uint4*>(from) : uint4{};
#endif
}

__device__ inline void wait_for_copies() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

}  // namespace gradlibra::kernels
