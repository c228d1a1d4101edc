// SPDX-License-Identifier: MIT
#include "runtime/device/device.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace gradlibra {

void* HostDevice::allocate(size_t bytes) {
  void* block = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void HostDevice::release(void* block, size_t) noexcept { std::free(block); }

// memcpy and memset with a null pointer are undefined even for zero bytes.
void HostDevice::copy_in(const void* host, void* device, size_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}
void HostDevice::copy_out(const void* device, void* host, size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}
void HostDevice::copy(const void* from, void* to, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void HostDevice::zero(void* block, size_t bytes) {
  if (bytes > 0) std::memset(block, 0, bytes);
}

}  // namespace gradlibra
