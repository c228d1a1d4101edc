// SPDX-License-Identifier: MIT
// XXH64, a fast hash of 64 bits against damage, not against malice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace gradlibra {

// XXH64 of Yann Collet's specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md, version 0.2): any program that
// knows the hash finds the same value.
[[nodiscard]] uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed = 0);

// With seed 0, as 16 hexadecimal digits, most significant first: the specification's canonical form.
[[nodiscard]] std::string xxh64_hex(std::span<const std::byte> bytes);

}  // namespace gradlibra
