// SPDX-License-Identifier: MIT
// The names of the steps are those of the specification.
#include "runtime/base/xxh64.h"

#include <array>
#include <bit>
#include <cstdio>
#include <cstring>

namespace gradlibra {
namespace {

static_assert(std::endian::native == std::endian::little, "the specification reads words in little endian");

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F, kPrime3 = 0x165667B19E3779F9,
                   kPrime4 = 0x85EBCA77C2B2AE63, kPrime5 = 0x27D4EB2F165667C5;

template <class Word>
uint64_t take(std::span<const std::byte>& bytes) {
  Word word;
  std::memcpy(&word, bytes.data(), sizeof(word));
  bytes = bytes.subspan(sizeof(word));
  return word;
}

uint64_t round(uint64_t accumulator, uint64_t lane) { return std::rotl(accumulator + lane * kPrime2, 31) * kPrime1; }

uint64_t merge(uint64_t hash, uint64_t accumulator) { return (hash ^ round(0, accumulator)) * kPrime1 + kPrime4; }

// Takes all whole stripes of 32 bytes.
uint64_t hash_stripes(std::span<const std::byte>& bytes, uint64_t seed) {
  std::array<uint64_t, 4> accumulators{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1};
  while (bytes.size() >= 32) {
    for (uint64_t& accumulator : accumulators) accumulator = round(accumulator, take<uint64_t>(bytes));
  }
  const auto& [a, b, c, d] = accumulators;
  uint64_t hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
  for (const uint64_t accumulator : accumulators) hash = merge(hash, accumulator);
  return hash;
}

}  // namespace

uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed) {
  const uint64_t length = bytes.size();
  uint64_t hash = length >= 32 ? hash_stripes(bytes, seed) : seed + kPrime5;
  hash += length;
  while (bytes.size() >= 8) hash = std::rotl(hash ^ round(0, take<uint64_t>(bytes)), 27) * kPrime1 + kPrime4;
  if (bytes.size() >= 4) hash = std::rotl(hash ^ take<uint32_t>(bytes) * kPrime1, 23) * kPrime2 + kPrime3;
  while (!bytes.empty()) hash = std::rotl(hash ^ take<uint8_t>(bytes) * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

std::string xxh64_hex(std::span<const std::byte> bytes) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(xxh64(bytes)));
  return text.data();
}

}  // namespace gradlibra
