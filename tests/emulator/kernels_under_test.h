// SPDX-License-Identifier: MIT
// Kernels that exist to test the emulator: sound ones, and ones with a known mistake each.
#pragma once

#include <cstdint>

#include "kernels/cuda.h"
#include "kernels/launch.h"

namespace gradlibra::emulator_test {

// sound.cu -------------------------------------------------------------------------------------------------------

// sum[b] = sum of block b's share of x (n values): shuffles within a warp, shared memory between warps.
void block_sums(Cuda&, const int* x, int n, int* sum, unsigned blocks, unsigned threads);
// total[0] = sum of x: the block that ends last adds up what the others stored. ticket[0] is 0 before and after.
void grid_sum(Cuda&, const int* x, int n, int* partial, unsigned* ticket, int* total, unsigned blocks);
// y (cols, rows) = transpose of x (rows, cols), tile by tile through shared memory.
void transpose(Cuda&, const float* x, int rows, int cols, float* y);
// bins[v] += number of v in x.
void histogram(Cuda&, const unsigned char* x, int n, unsigned* bins, int bin_count);
// Inclusive prefix sum of one block's `n` values in dynamic shared memory.
void prefix_sum(Cuda&, const int* x, int n, int* y);
// One row of results per lane of one warp: see the kernel.
inline constexpr int kWarpResults = 16;
void warp_operations(Cuda&, unsigned* results);
// order[i] = number of the thread (over all blocks) that came i-th.
void arrival_order(Cuda&, unsigned* ticket, unsigned* order, unsigned blocks, unsigned threads);
// where[thread] = its linear index computed from threadIdx and blockIdx.
void coordinates(Cuda&, dim3 grid, dim3 block, unsigned* where);
void empty(Cuda&, dim3 grid, dim3 block, size_t shared_bytes);
// Uses 40 KiB of static shared memory beside the dynamic.
void static_and_dynamic(Cuda&, size_t shared_bytes, float* y);
void null_kernel(Cuda&);

// broken/races.cu: each gives a wrong y (n values, one block of n threads) under most seeds -------------------------

void reverse_without_barrier(Cuda&, const int* x, int n, int* y);         // y = x reversed
void rotate_without_second_barrier(Cuda&, const int* x, int n, int* y);   // y = x rotated by 3
void warp_exchange_without_syncwarp(Cuda&, const int* x, int n, int* y);  // y[i] = x[i ^ 1]
void read_of_unwritten_static(Cuda&, int n, int* y);                      // y = 0
void read_of_unwritten_inline(Cuda&, int n, int* y);                      // y = 0
void read_of_unwritten_dynamic(Cuda&, int n, int* y);                     // y = 0
void add_without_atomics(Cuda&, int n, int* y);                           // y[0] = n

// broken/barriers.cu: each makes launch() throw --------------------------------------------------------------------

void exit_before_barrier(Cuda&, int n);
void barrier_in_a_branch(Cuda&, int n);
void two_different_barriers(Cuda&, int n);
void barrier_and_shuffle(Cuda&, int n);
void shuffle_after_exit(Cuda&, int n);
void shuffle_in_a_branch(Cuda&, int n);
void shuffle_with_different_masks(Cuda&, int n);
void shuffle_outside_mask(Cuda&, int n);
void trap(Cuda&, int n);

// broken/memory.cu: each is stopped by a sanitizer, or by launch()
// ------------------------------------------------------

void read_past_the_end(Cuda&, const float* x, int n, float* y);
void write_past_dynamic_shared(Cuda&, int n);
void write_past_static_shared(Cuda&, int n);
void misaligned_vector_load(Cuda&, const float* x, float* y);
float launcher_reads_device_memory(Cuda&, const float* x);
void endless_recursion(Cuda&, int depth, int* y);

}  // namespace gradlibra::emulator_test
