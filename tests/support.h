// SPDX-License-Identifier: MIT
// What tests of every room need: numbers, reproducible random values, comparisons and a hash.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace gradlibra::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Uniform in [lo, hi), the same on any machine.
inline std::vector<float> random_floats(int64_t size, std::mt19937& rng, float lo = -1, float hi = 1) {
  std::vector<float> values(static_cast<size_t>(size));
  for (float& v : values) v = lo + (hi - lo) * static_cast<float>(rng() >> 8) / 16777216.0f;
  return values;
}
inline std::vector<float> random_floats(int64_t size, uint32_t seed, float lo = -1, float hi = 1) {
  std::mt19937 rng(seed);
  return random_floats(size, rng, lo, hi);
}

// |got - want| <= atol + rtol * |want|; NaN is near NaN only, an infinity near itself only.
[[nodiscard]] inline ::testing::AssertionResult near(double got, double want, double atol, double rtol = 0) {
  const bool ok = std::isnan(want)   ? std::isnan(got)
                  : std::isinf(want) ? got == want
                                     : std::abs(got - want) <= atol + rtol * std::abs(want);
  if (ok) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << ::testing::PrintToString(got) << " is not " << ::testing::PrintToString(want)
                                       << " within " << atol << " + " << rtol << " * |want|";
}

template <class T, class U>
void expect_near_or_nan(const std::vector<T>& got, const std::vector<U>& want, double atol, double rtol = 0) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(near(static_cast<double>(got[i]), static_cast<double>(want[i]), atol, rtol)) << "element " << i;
}

// The same where no NaN is wanted: one in `want` is an element that nobody computed.
template <class T, class U>
void expect_near(const std::vector<T>& got, const std::vector<U>& want, double atol, double rtol = 0) {
  for (size_t i = 0; i < want.size(); ++i) ASSERT_FALSE(std::isnan(static_cast<double>(want[i]))) << "element " << i;
  expect_near_or_nan(got, want, atol, rtol);
}

// The same, with the name of what is compared.
template <class T, class U>
void expect_near(const std::string& what, const std::vector<T>& got, const std::vector<U>& want, double atol,
                 double rtol = 0) {
  SCOPED_TRACE(what);
  expect_near(got, want, atol, rtol);
}

// Equal, NaN to NaN.
inline void expect_same(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
        << "element " << i << ": got " << got[i] << ", want " << want[i];
}

// The same bits, so that NaN equals itself and -0 is not 0.
template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// 64-bit FNV-1a.
inline uint64_t hash_bytes(const std::vector<uint8_t>& bytes) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (const uint8_t b : bytes) h = (h ^ b) * 0x100000001b3ULL;
  return h;
}

}  // namespace gradlibra::testing
