// SPDX-License-Identifier: MIT
// Which rows take part in which group of balanced group softmax (kernels/losses/bags.h): the group's own, and a number
// of others drawn anew in every step. The draw is a ranking by hash: it depends on seed, step, rank, group and row
// alone, never on the order of threads.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// A row counts if its weight is not 0 and its label not -1. Of group g in 1..G, with F_g rows of its classes on this
// rank and O_g other rows that count (background too),
//   k = min(floor(beta F_g), O_g); the k others of smallest bags_hash(seed, iteration, rank, g, row) take part with the
//   group's own. No own rows, no others.
// labels (R), weights (R); group_of (C): group of each class, 1..G; state (2): seed and iteration, whole numbers.
// sample (R, G): 1 for the rows that take part in group g + 1, else 0. sums (G + 1): [0] the number of rows that count,
// [g] the sum of the weights of those that take part in group g. R may be 0. workspace: bags_sample_workspace(R, G)
// int64; what it holds does not matter.
int64_t bags_sample_workspace(const Cpu&, int64_t R, int64_t G);
int64_t bags_sample_workspace(const Cuda&, int64_t R, int64_t G);
void bags_sample(Cpu&, View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of, double beta,
                 View<const double> state, int rank, View<uint8_t> sample, View<double> sums, View<int64_t> workspace);
void bags_sample(Cuda&, View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of,
                 double beta, View<const double> state, int rank, View<uint8_t> sample, View<double> sums,
                 View<int64_t> workspace);

// The finaliser of splitmix64 over one number after the other. For a fixed prefix it is a bijection of the last number,
// so no two rows of a group have the same.
GRADLIBRA_HOST_DEVICE inline uint64_t bags_mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}
GRADLIBRA_HOST_DEVICE inline uint64_t bags_hash_next(uint64_t hash, uint64_t value) {
  return bags_mix(hash + 0x9E3779B97F4A7C15ull + value);
}
// All but the row.
GRADLIBRA_HOST_DEVICE inline uint64_t bags_hash_prefix(uint64_t seed, uint64_t iteration, uint64_t rank,
                                                       uint64_t group) {
  return bags_hash_next(bags_hash_next(bags_hash_next(bags_hash_next(0, seed), iteration), rank), group);
}
GRADLIBRA_HOST_DEVICE inline uint64_t bags_hash(uint64_t seed, uint64_t iteration, uint64_t rank, uint64_t group,
                                                uint64_t row) {
  return bags_hash_next(bags_hash_prefix(seed, iteration, rank, group), row);
}

// What both versions share: the group of a row (0: background, -1: it does not count), k, and checks.
GRADLIBRA_HOST_DEVICE inline int bags_group(int32_t label, float weight, const int32_t* group_of, int64_t C) {
  return weight == 0 || label < 0 ? -1 : label < C ? group_of[label] : 0;
}
GRADLIBRA_HOST_DEVICE inline int64_t bags_others(double beta, int64_t own, int64_t others) {
  const double k = std::floor(beta * static_cast<double>(own));
  return k < static_cast<double>(others) ? static_cast<int64_t>(k) : others;
}
void check_bags_sample(View<const int32_t> labels, View<const float> weights, View<const int32_t> group_of, double beta,
                       View<const double> state, View<uint8_t> sample, View<double> sums, View<int64_t> workspace,
                       int64_t workspace_size);

}  // namespace gradlibra::kernels
