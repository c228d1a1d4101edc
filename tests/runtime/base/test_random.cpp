// SPDX-License-Identifier: MIT
// Random streams: the same numbers everywhere, no visible structure, and elementary functions that agree with libm.
#include "runtime/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>
#include <vector>

namespace gradlibra {
namespace {

// splitmix64 seeded with 0 is known to begin so: mix_bits(golden), mix_bits(2 golden).
TEST(Random, MixerIsSplitmix64) {
  EXPECT_EQ(mix_bits(0x9e3779b97f4a7c15ULL), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix_bits(2 * 0x9e3779b97f4a7c15ULL), 0x6e789e6aa1b965f4ULL);
}

// A change of these numbers changes every initialisation and every augmentation of every run that anyone has recorded.
TEST(Random, NumbersAreFixedForEver) {
  RandomStream a(1), b(1, {2, 3});
  EXPECT_EQ(a.bits(), 0x5e41ab087439611eULL);
  EXPECT_EQ(b.bits(), 0xd0d375ec354540cULL);
  RandomStream c(1);
  EXPECT_DOUBLE_EQ(c.normal(), 0.89867742549064622);
  EXPECT_DOUBLE_EQ(c.normal(), -0.33273184037132186);
}

TEST(Random, KeysAndSeedsGiveDifferentStreams) {
  std::set<uint64_t> first;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    first.insert(RandomStream(seed).bits());
    for (uint64_t a = 0; a < 10; ++a) {
      first.insert(RandomStream(seed, {a}).bits());
      for (uint64_t b = 0; b < 10; ++b) first.insert(RandomStream(seed, {a, b}).bits());
    }
  }
  EXPECT_EQ(first.size(), 10u + 100u + 1000u);
}

TEST(Random, UniformIsFlatAndInside) {
  RandomStream random(7);
  constexpr int kDraws = 200'000, kBins = 20;
  std::array<int, kBins> bins{};
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<int>(u * kBins)];
  }
  double chi2 = 0;
  for (const int count : bins) chi2 += std::pow(count - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi2, 45);  // 19 degrees of freedom: beyond 43.8 once in a thousand
}

TEST(Random, IntegersReachEveryValue) {
  RandomStream random(3);
  for (const int64_t n : {1, 2, 3, 7, 100}) {
    std::vector<int> count(n);
    for (int i = 0; i < 2000; ++i) {
      const int64_t r = random.uniform_int(n);
      ASSERT_GE(r, 0);
      ASSERT_LT(r, n);
      ++count[r];
    }
    for (const int c : count) EXPECT_GT(c, 0);
  }
  const int64_t huge = random.uniform_int(INT64_MAX);
  EXPECT_GE(huge, 0);
}

TEST(Random, NormalHasTheRightMoments) {
  RandomStream random(11);
  constexpr int kDraws = 200'000;
  double sum = 0, squares = 0, fourths = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  EXPECT_LT(std::abs(sum / kDraws), 0.01);           // standard error 0.0022
  EXPECT_LT(std::abs(squares / kDraws - 1), 0.015);  // 0.0032
  EXPECT_LT(std::abs(fourths / kDraws - 3), 0.12);   // 0.022
}

TEST(Random, ElementaryFunctionsAgreeWithLibm) {
  RandomStream random(5);
  for (int i = 0; i < 20'000; ++i) {
    const double u = i < 60 ? std::ldexp(1.0, -i) : 1 - random.uniform();
    EXPECT_LE(std::abs(RandomStream::log_of(u) - std::log(u)), 4e-15 * std::max(1.0, std::abs(std::log(u)))) << u;
    const double v = i < 9 ? i * 0.125 - (i == 8 ? 1e-16 : 0) : random.uniform();
    double c, s;
    RandomStream::cos_sin_of_turn(v, c, s);
    EXPECT_LE(std::abs(c - std::cos(2 * std::numbers::pi * v)), 2e-15) << v;
    EXPECT_LE(std::abs(s - std::sin(2 * std::numbers::pi * v)), 2e-15) << v;
  }
}

TEST(Random, ShuffleIsAPermutationAndMovesThings) {
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  std::vector<int> sorted = items;
  RandomStream(1).shuffle(std::span(items));
  EXPECT_NE(items, sorted);
  EXPECT_TRUE(std::is_permutation(items.begin(), items.end(), sorted.begin()));
  std::vector<int> nothing;
  RandomStream(1).shuffle(std::span(nothing));
  EXPECT_TRUE(nothing.empty());
}

}  // namespace
}  // namespace gradlibra
