// SPDX-License-Identifier: MIT
// Arithmetic for synthetic smears with the same bits everywhere: only + - * / and sqrt, exact by IEEE 754, touch
// pixels.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "runtime/base/random.h"

namespace gradlibra {

// Single-precision draws from a RandomStream. The order of draws is part of the result: no expression or argument list
// holds two of them, except in braces, which are evaluated from left to right.
class Random {
 public:
  explicit Random(uint64_t seed, std::initializer_list<uint64_t> key) : stream_(seed, key) {}

  uint64_t next() { return stream_.bits(); }
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-24F; }  // [0, 1)
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  int below(int n) { return static_cast<int>((next() >> 32) * static_cast<uint64_t>(n) >> 32); }
  int between(int low, int high) { return low + below(high - low + 1); }  // both included
  bool chance(float probability) { return uniform() < probability; }
  // Bell-shaped with variance 1 and bounded by 3 (a sum of three uniforms), so no sample is absurd.
  float bell() {
    const float a = uniform(), b = uniform(), c = uniform();
    return (a + b + c - 1.5F) * 2.0F;
  }

 private:
  RandomStream stream_;
};

struct Vec {
  float x = 0, y = 0;
};
[[nodiscard]] inline float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y; }
[[nodiscard]] inline float length(Vec a) { return std::sqrt(dot(a, a)); }
// The vector given in a frame whose first axis is `axis` (unit length), and back.
[[nodiscard]] inline Vec into_frame(Vec p, Vec axis) { return {dot(p, axis), p.y * axis.x - p.x * axis.y}; }
[[nodiscard]] inline Vec out_of_frame(Vec p, Vec axis) {
  return {p.x * axis.x - p.y * axis.y, p.x * axis.y + p.y * axis.x};
}

// A uniformly random unit vector, by rejection: no trigonometry.
[[nodiscard]] inline Vec random_direction(Random& random) {
  for (;;) {
    const Vec p = {random.uniform(-1, 1), random.uniform(-1, 1)};
    const float norm = length(p);
    if (norm > 0.05F && norm <= 1) return {p.x / norm, p.y / norm};
  }
}

// Position around the origin in [0, 4), monotonic in the angle: y / (|x| + |y|) by quadrant.
[[nodiscard]] inline float pseudo_angle(Vec p) {
  const float sum = std::abs(p.x) + std::abs(p.y);
  if (!(sum > 0)) return 0;
  if (p.y >= 0) return p.x >= 0 ? p.y / sum : 1 - p.x / sum;
  return p.x < 0 ? 2 - p.y / sum : 3 + p.x / sum;
}
// The unit vector at a pseudo-angle in [0, 4].
[[nodiscard]] inline Vec from_pseudo_angle(float t) {
  const float f = t - std::floor(t);
  const int quadrant = static_cast<int>(t) & 3;
  const Vec p = quadrant == 0   ? Vec{1 - f, f}
                : quadrant == 1 ? Vec{-f, 1 - f}
                : quadrant == 2 ? Vec{f - 1, -f}
                                : Vec{f, f - 1};
  const float norm = length(p);
  return {p.x / norm, p.y / norm};
}

// exp(-x) for x >= 0, to 1e-5 of the value up to x = 30: 2^k times a polynomial. std::exp may differ in its last bit
// between libraries.
[[nodiscard]] inline float exp_minus(float x) {
  const float y = std::min(x, 60.0F) * -1.44269504F;
  const float k = std::floor(y);
  const float f = (y - k) * 0.693147181F;
  const float p = 1 + f * (1 + f * (0.5F + f * (1.0F / 6 + f * (1.0F / 24 + f * (1.0F / 120 + f * (1.0F / 720))))));
  return p * std::bit_cast<float>(static_cast<uint32_t>(static_cast<int>(k) + 127) << 23);
}

// 0 below `low`, 1 above `high`, smooth between.
[[nodiscard]] inline float smooth_step(float low, float high, float x) {
  const float t = std::clamp((x - low) / (high - low), 0.0F, 1.0F);
  return t * t * (3 - 2 * t);
}

// Smooth noise in [-1, 1] with features of about one unit; repeats after kSide units.
class NoiseTile {
 public:
  static constexpr int kSide = 128;

  explicit NoiseTile(Random& random) : lattice_(static_cast<size_t>(kSide) * kSide) {
    for (float& value : lattice_) value = random.uniform(-1, 1);
  }

  [[nodiscard]] float at(float x, float y) const {
    const float x0 = std::floor(x), y0 = std::floor(y);
    const float fx = x - x0, fy = y - y0;
    const int i = static_cast<int>(x0) & (kSide - 1), j = static_cast<int>(y0) & (kSide - 1);
    const int i1 = (i + 1) & (kSide - 1), j1 = (j + 1) & (kSide - 1);
    const float wx = fx * fx * (3 - 2 * fx), wy = fy * fy * (3 - 2 * fy);
    const float* top = lattice_.data() + static_cast<ptrdiff_t>(j) * kSide;
    const float* bottom = lattice_.data() + static_cast<ptrdiff_t>(j1) * kSide;
    const float a = top[i] + (top[i1] - top[i]) * wx;
    const float b = bottom[i] + (bottom[i1] - bottom[i]) * wx;
    return a + (b - a) * wy;
  }

 private:
  std::vector<float> lattice_;
};

}  // namespace gradlibra
