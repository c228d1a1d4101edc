// SPDX-License-Identifier: MIT
// Softmax of a few logits of one row, in double: losses take differences of large logits, whose rounding in float the
// exponential would magnify.
#pragma once

#include <cmath>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// Of z(0) .. z(n - 1), n >= 1, with m = z(largest) the (first) largest and S = sum over the others of e^(z_j - m):
//   P_j = e^(z_j - m) / (1 + S),   -log P_t = (m - z_t) + log(1 + S),   d(-log P_t)/dz_j = P_j - [j = t].
// No difference of nearly equal numbers anywhere: a row that is right by far keeps its small loss. NaN in one is NaN in
// all. +infinity gives NaN.
struct Softmax {
  int largest;
  double max, others;
  GRADLIBRA_HOST_DEVICE double probability(double z) const { return std::exp(z - max) / (1 + others); }
  GRADLIBRA_HOST_DEVICE double loss(double z_target) const { return (max - z_target) + std::log1p(others); }
  GRADLIBRA_HOST_DEVICE double grad(double z, int j, int target) const {
    if (j != target) return probability(z);
    return j == largest ? -others / (1 + others) : probability(z) - 1;
  }
};

template <class Logit>
GRADLIBRA_HOST_DEVICE inline Softmax softmax_of(int n, const Logit& z) {
  Softmax s = {0, z(0), 0};
  for (int j = 1; j < n; ++j)
    if (z(j) > s.max) s.largest = j, s.max = z(j);
  for (int j = 0; j < n; ++j)
    if (j != s.largest) s.others += std::exp(z(j) - s.max);
  return s;
}

}  // namespace gradlibra::kernels
