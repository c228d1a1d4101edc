// SPDX-License-Identifier: MIT
// Device side: where a tap of a deformable convolution reads and with which weights, for every kernel that samples.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/convolution/deform_im2col.h"
#include "kernels/divide.cuh"
#include "kernels/launch.h"

namespace gradlibra::kernels::deform {

// The kernel's copy of the sizes; a side fits int, a product may not.
struct Sizes {
  int64_t samples;  // N*H*W*K*K
  int H, W, C, K, padding;
};

inline Sizes sizes(const DeformDims& d) {
  return {
      d.N * d.H * d.W * d.K * d.K, static_cast<int>(d.H), static_cast<int>(d.W), static_cast<int>(d.C), d.K, d.padding};
}

// Where a sample lies: between rows y0 and y0 + 1, columns x0 and x0 + 1 of image n, which may be outside the map by
// one.
struct Position {
  bool inside = false;  // else the sample and all its derivatives are 0, and the rest is not set
  int64_t n = 0;
  int y0 = 0, x0 = 0;
  float ly = 0, lx = 0;
  // Of corner (y0 + a, x0 + b).
  __device__ float weight(int a, int b) const { return (a == 0 ? 1 - ly : ly) * (b == 0 ? 1 - lx : lx); }
};

// The output cell of a sample, on image n.
template <class Index>
struct Cell {
  Index n;
  int row, col;
};
template <class Index>
__device__ Cell<Index> cell_at(Index cell, const Sizes& s) {
  const Index line = divide(cell, s.W), n = divide(line, s.H);
  return {n, static_cast<int>(line - n * s.H), static_cast<int>(cell - line * s.W)};
}

// Of tap (kr, kc) of a cell; offset: its y, then its x.
template <class Index>
__device__ Position position_of(const Cell<Index>& cell, int kr, int kc, const float* __restrict__ offset,
                                const Sizes& s) {
  const float py = static_cast<float>(cell.row - s.padding + kr) + offset[0];
  const float px = static_cast<float>(cell.col - s.padding + kc) + offset[1];
  Position p;
  // Negated, so that NaN counts as outside.
  if (!(py > -1 && py < static_cast<float>(s.H) && px > -1 && px < static_cast<float>(s.W))) return p;
  const float fy = floorf(py), fx = floorf(px);
  p.inside = true;
  p.n = cell.n;
  p.y0 = static_cast<int>(fy);
  p.x0 = static_cast<int>(fx);
  p.ly = py - fy;
  p.lx = px - fx;
  return p;
}

// Index is int where sample numbers are known to fit.
template <class Index>
__device__ Position position_of(const float* __restrict__ offsets, Index sample, const Sizes& s) {
  const int taps = s.K * s.K;
  const Index cell = divide(sample, taps);
  const int t = static_cast<int>(sample - cell * taps);
  return position_of(cell_at(cell, s), t / s.K, t % s.K, offsets + 2 * static_cast<int64_t>(sample), s);
}

}  // namespace gradlibra::kernels::deform
