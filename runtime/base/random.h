// SPDX-License-Identifier: MIT
// Random numbers that depend on a seed and a place only (never on threads, order of calls elsewhere, or the machine).
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

namespace gradlibra {

// The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): a
// bijection of 64-bit words in which every input bit changes about half of the output bits.
constexpr uint64_t mix_bits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// FNV-1a of a name, to use a parameter's or a purpose's name as a key word.
constexpr uint64_t hash_name(const char* name, uint64_t length) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (uint64_t i = 0; i < length; ++i) h = (h ^ static_cast<unsigned char>(name[i])) * 0x100000001b3ULL;
  return h;
}

// A sequence of random numbers addressed by a seed and key words: RandomStream(seed, {epoch, position}) is the same
// sequence wherever and whenever it is made, and streams with different keys are independent for every practical
// purpose. Draw i is mix_bits(key + (i + 1) * golden), so a stream is 16 bytes of state and costs nothing to create:
// make one per item and never share one between threads. Only IEEE additions, multiplications, divisions and square
// roots are used (no libm whose last bit differs between machines), so values are the same everywhere if contraction to
// fused multiply-adds is off.
class RandomStream {
 public:
  explicit constexpr RandomStream(uint64_t seed, std::initializer_list<uint64_t> key = {})
      : key_(mix_bits(seed + kGolden)) {
    for (const uint64_t word : key) key_ = mix_bits((key_ ^ word) + kKeyStep);
  }

  // The next 64 random bits.
  constexpr uint64_t bits() { return mix_bits(key_ + ++counter_ * kGolden); }

  // Uniform in [0, 1): a multiple of 2^-53.
  constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // Uniform in [low, high).
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // Uniform in {0, ..., n - 1}, without modulo bias; n >= 1.
  constexpr int64_t uniform_int(int64_t n) {
    const uint64_t range = static_cast<uint64_t>(n);
    const uint64_t excess = (0 - range) % range;  // 2^64 mod n: that many draws are refused
    uint64_t r = bits();
    while (r < excess) r = bits();
    return static_cast<int64_t>(r % range);
  }

  // Standard normal by the Box-Muller transform: r = sqrt(-2 ln u), (r cos 2 pi v, r sin 2 pi v); the second is kept
  // for the next call.
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double u = 1 - uniform();  // (0, 1]
    const double radius = std::sqrt(-2 * log_of(u));
    double cosine, sine;
    cos_sin_of_turn(uniform(), cosine, sine);
    spare_ = radius * sine;
    has_spare_ = true;
    return radius * cosine;
  }
  double normal(double mean, double std) { return mean + std * normal(); }

  // Fisher-Yates.
  template <class T>
  void shuffle(std::span<T> items) {
    for (int64_t i = static_cast<int64_t>(items.size()) - 1; i > 0; --i) std::swap(items[i], items[uniform_int(i + 1)]);
  }

  // ln u, u > 0 and normal: u = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh s, s = (m - 1) / (m + 1). Error
  // < 1e-15.
  static double log_of(double u) {
    int exponent;
    double m = std::frexp(u, &exponent);  // exact
    if (m < 0.70710678118654752) {
      m *= 2;
      --exponent;
    }
    const double s = (m - 1) / (m + 1), s2 = s * s;
    double sum = 0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
    return 2 * s * sum + exponent * 0.69314718055994531;
  }

  // cos and sin of 2 pi v, v in [0, 1): reduced to the nearest eighth turn, then their power series. Error < 1e-15.
  static void cos_sin_of_turn(double v, double& cosine, double& sine) {
    const int quarter = static_cast<int>(v * 4 + 0.5);                       // 0..4
    const double a = (v - quarter * 0.25) * 6.2831853071795865, a2 = a * a;  // |a| <= pi / 4
    double c = 1, s = 1;
    for (int k = 18; k >= 2; k -= 2) {
      c = 1 - a2 / (k * (k - 1)) * c;
      s = 1 - a2 / (k * (k + 1)) * s;
    }
    s *= a;
    switch (quarter & 3) {
      case 0:
        cosine = c, sine = s;
        break;
      case 1:
        cosine = -s, sine = c;
        break;
      case 2:
        cosine = -c, sine = -s;
        break;
      default:
        cosine = s, sine = -c;
        break;
    }
  }

 private:
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
  static constexpr uint64_t kKeyStep = 0xd1b54a32d192ed03ULL;  // unlike kGolden, so that a key is no draw of its parent
  uint64_t key_;
  uint64_t counter_ = 0;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace gradlibra
