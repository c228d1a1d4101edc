// SPDX-License-Identifier: MIT
// The host interface of the emulated runtime: allocations, copies, and errors.
#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "emulator/host_api.h"

#if defined(__SANITIZE_ADDRESS__)
#define GRADLIBRA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRADLIBRA_ASAN 1
#endif
#endif
#ifdef GRADLIBRA_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace gradlibra::emulator {
namespace {

void poison([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#ifdef GRADLIBRA_ASAN
  __asan_poison_memory_region(data, bytes);
#endif
}
void unpoison([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#ifdef GRADLIBRA_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
}

struct Device {
  std::map<const char*, size_t> allocations;  // start to size
  Random random{1};
  cudaError_t last_error = cudaSuccess;

  // The allocation that holds [pointer, pointer + bytes), or end().
  auto find(const void* pointer, size_t bytes) {
    const char* p = static_cast<const char*>(pointer);
    auto it = allocations.upper_bound(p);
    if (it == allocations.begin()) return allocations.end();
    --it;
    const auto offset = static_cast<size_t>(p - it->first);
    return offset <= it->second && bytes <= it->second - offset ? it : allocations.end();
  }
  cudaError_t error(cudaError_t status) {
    if (status != cudaSuccess) last_error = status;
    return status;
  }
};

unsigned bus = 0;

// Never destroyed: device arrays of static lifetime may outlive it.
Device& device() {
  static auto* instance = new Device;
  return *instance;
}

// Lets this file touch an allocation for a moment.
class Opened {
 public:
  Opened(const char* data, size_t bytes) : data_(data), bytes_(bytes) { unpoison(data_, bytes_); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { poison(data_, bytes_); }

 private:
  const char* data_;
  size_t bytes_;
};

}  // namespace

void set_bus(unsigned number) { bus = number; }

void SharedMemory::resize(size_t bytes) {
  std::free(data_);
  data_ = bytes == 0 ? nullptr : std::malloc(bytes);
  bytes_ = bytes;
}

void seed_memory(uint64_t seed) { device().random = Random(seed); }

void fill_with_garbage(void* data, size_t bytes, Random& random) {
  auto* to = static_cast<char*>(data);
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = random.bits();
    std::memcpy(to + i, &word, bytes - i < 8 ? bytes - i : 8);
  }
}

bool is_device_range(const void* pointer, size_t bytes) {
  return device().find(pointer, bytes) != device().allocations.end();
}
bool is_device_pointer(const void* pointer) { return is_device_range(pointer, 0); }
void unlock_device_memory() {
  for (const auto& [data, bytes] : device().allocations) unpoison(data, bytes);
}
void lock_device_memory() {
  for (const auto& [data, bytes] : device().allocations) poison(data, bytes);
}

}  // namespace gradlibra::emulator

using gradlibra::emulator::device;

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorUnknown:
      break;
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t status) { return cudaGetErrorName(status); }
cudaError_t cudaPeekAtLastError() { return device().last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t status = device().last_error;
  device().last_error = cudaSuccess;
  return status;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) { return device().error(index == 0 ? cudaSuccess : cudaErrorInvalidValue); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 2;
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
  }
  return device().error(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int) {
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", gradlibra::emulator::bus);
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 12040;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulator", size_t{1} << 32, 9, 0};
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = size_t{1} << 32;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = std::malloc(bytes);
  if (*pointer == nullptr) return device().error(cudaErrorMemoryAllocation);
  gradlibra::emulator::fill_with_garbage(*pointer, bytes, device().random);
  device().allocations[static_cast<const char*>(*pointer)] = bytes;
  gradlibra::emulator::poison(*pointer, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const auto it = device().allocations.find(static_cast<const char*>(pointer));
  if (it == device().allocations.end()) return device().error(cudaErrorInvalidValue);
  gradlibra::emulator::unpoison(pointer, it->second);
  device().allocations.erase(it);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  const auto end = device().allocations.end();
  const auto target = device().find(to, bytes), source = device().find(from, bytes);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (to_device != (target != end) || from_device != (source != end)))
    return device().error(cudaErrorInvalidValue);
  const gradlibra::emulator::Opened open_target(target == end ? nullptr : target->first,
                                                target == end ? 0 : target->second);
  const gradlibra::emulator::Opened open_source(source == end ? nullptr : source->first,
                                                source == end ? 0 : source->second);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const auto work = [=] { return cudaMemcpy(to, from, bytes, kind); };
  const bool on_device = kind == cudaMemcpyDeviceToDevice;
  // A graph would read the host's memory as it is at each launch, which no code of this project means.
  if (gradlibra::emulator::record(stream, on_device ? std::function<void()>(work) : std::function<void()>()))
    return device().error(on_device ? cudaSuccess : cudaErrorStreamCaptureUnsupported);
  return work();
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  const auto target = device().find(to, bytes);
  if (target == device().allocations.end()) return device().error(cudaErrorInvalidValue);
  const gradlibra::emulator::Opened open(target->first, target->second);
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const auto work = [=] { return cudaMemset(to, value, bytes); };
  return gradlibra::emulator::record(stream, work) ? cudaSuccess : work();
}
