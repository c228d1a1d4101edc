// SPDX-License-Identifier: MIT
// Device memory and shared memory of the emulator, and the random numbers that fill and order things.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gradlibra::emulator {

// splitmix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // In [0, n); n >= 1.
  uint64_t below(uint64_t n) { return bits() % n; }

 private:
  uint64_t state_;
};

// The dynamic shared memory of a block: a heap block of exactly the size, so that the sanitizer sees an overrun.
class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { resize(0); }
  void resize(size_t bytes);
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// The content of what cudaMalloc returns follows from this number.
void seed_memory(uint64_t seed);
void fill_with_garbage(void* data, size_t bytes, Random& random);

// Whether `pointer` lies in, or at the end of, memory from cudaMalloc.
bool is_device_pointer(const void* pointer);
bool is_device_range(const void* pointer, size_t bytes);

// Under AddressSanitizer: device memory may be touched between unlock and lock only.
void unlock_device_memory();
void lock_device_memory();

}  // namespace gradlibra::emulator
