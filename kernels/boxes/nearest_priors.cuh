// SPDX-License-Identifier: MIT
// Device side: the search of anchors' assigners, and the ground truth they read.
#pragma once

#include "kernels/block_reduce.cuh"
#include "kernels/boxes/anchor_geometry.h"

namespace gradlibra::kernels {

namespace {

// Ground truth as it lies in memory; image n has count(n) boxes, the rest is padding.
struct PaddedBoxes {
  const float* boxes;  // (N, M, 4)
  const int32_t* counts;
  int64_t N, M;
  __device__ int64_t count(int64_t n) const {
    const int64_t c = counts[n];
    return c < 0 ? 0 : c < M ? c : M;
  }
};

// By the whole block: the nearest prior of [first, last) behind `last_found` in the order of `nearer`; at infinity if
// there is none left. Called k times it gives the k nearest, nearest first: they come one by one.
template <class Distance>
__device__ Near next_nearest(int64_t first, int64_t last, const Near& last_found, Distance&& distance) {
  Near best = {INFINITY, INT32_MAX};
  for (int64_t p = first + threadIdx.x; p < last; p += kBlock) {
    const Near here = {distance(p), static_cast<int>(p)};
    if (nearer(last_found, here) && nearer(here, best)) best = here;
  }
  return block_reduce(best, [](const Near& a, const Near& b) { return nearer(b, a) ? b : a; });
}

}  // namespace

}  // namespace gradlibra::kernels
