// SPDX-License-Identifier: MIT
// XXH64 against published values: of the reference program's self-test (cli/xsum_sanity_check.c of xxHash) and of known
// strings. Lengths below and above a stripe, and every tail.
#include "runtime/base/xxh64.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace gradlibra {
namespace {

uint64_t hash_of(std::string_view text) { return xxh64(std::as_bytes(std::span(text))); }

TEST(Xxh64, KnownStrings) {
  EXPECT_EQ(hash_of(""), 0xEF46DB3751D8E999U);
  EXPECT_EQ(hash_of("a"), 0xD24EC4F1A98C6E5BU);
  EXPECT_EQ(hash_of("abc"), 0x44BC2CF5AD770999U);
  EXPECT_EQ(xxh64_hex(std::as_bytes(std::span(std::string_view("abc")))), "44bc2cf5ad770999");
}

TEST(Xxh64, TheReferenceProgramsSelfTest) {
  constexpr uint64_t kPrime32 = 2654435761U;
  std::vector<std::byte> buffer(222);
  uint64_t generator = kPrime32;
  for (std::byte& byte : buffer) {
    byte = static_cast<std::byte>(generator >> 56);
    generator *= 11400714785074694797U;
  }
  const auto hash = [&](size_t length, uint64_t seed) { return xxh64(std::span(buffer).first(length), seed); };
  EXPECT_EQ(hash(0, 0), 0xEF46DB3751D8E999U);
  EXPECT_EQ(hash(0, kPrime32), 0xAC75FDA2929B17EFU);
  EXPECT_EQ(hash(1, 0), 0xE934A84ADB052768U);
  EXPECT_EQ(hash(1, kPrime32), 0x5014607643A9B4C3U);
  EXPECT_EQ(hash(4, 0), 0x9136A0DCA57457EEU);
  EXPECT_EQ(hash(14, 0), 0x8282DCC4994E35C8U);
  EXPECT_EQ(hash(14, kPrime32), 0xC3BD6BF63DEB6DF0U);
  EXPECT_EQ(hash(222, 0), 0xB641AE8CB691C174U);
  EXPECT_EQ(hash(222, kPrime32), 0x20CB8AB7AE10C14AU);
}

// Every length up to 200, the hash of one being the seed of the next; the value is that of the reference library.
TEST(Xxh64, EveryLengthAndTail) {
  std::vector<std::byte> bytes(200);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(7 * i + 3);
  uint64_t hash = 0;
  for (size_t length = 0; length <= bytes.size(); ++length) hash = xxh64(std::span(bytes).first(length), hash);
  EXPECT_EQ(hash, 0x03BB42792F3A3AF9U);
}

}  // namespace
}  // namespace gradlibra
