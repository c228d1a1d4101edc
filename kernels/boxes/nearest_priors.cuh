// SPDX-License-Identifier: MIT
// Device side: the search of assigners.
#pragma once

#include "kernels/block_reduce.cuh"
#include "kernels/boxes/anchor_geometry.h"

namespace gradlibra::kernels {

namespace {

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
