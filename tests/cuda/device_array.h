// SPDX-License-Identifier: MIT
// What a comparison of a CUDA kernel with its host version needs: device arrays and a stream.
// The same test sources are built twice: against the emulator (tests/emulator/include shadows cuda_runtime.h) and,
// where CUDA is found, against the real runtime; there they skip without a GPU.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"
#include "tests/support.h"

namespace gradlibra::testing {

// Device memory with a shape. Exactly as many bytes as elements, so that the emulator's sanitizer sees an overrun.
template <class T>
class DeviceArray {
 public:
  // Every byte 0xff: NaN for floats, -1 for integers, so that an element nobody wrote shows.
  explicit DeviceArray(Shape shape) : shape_(shape) {
    allocate();
    spoil();
  }
  DeviceArray(Shape shape, const std::vector<T>& values) : shape_(shape) {
    if (static_cast<int64_t>(values.size()) != shape.size()) throw std::invalid_argument("DeviceArray: size");
    allocate();
    assign(values);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    if (data_ != nullptr) cudaFree(data_);
  }

  [[nodiscard]] View<T> view() { return {data_, shape_}; }
  [[nodiscard]] View<const T> view() const { return {data_, shape_}; }
  [[nodiscard]] std::vector<T> to_host() const {
    std::vector<T> values(static_cast<size_t>(shape_.size()));
    check(cudaDeviceSynchronize());
    if (bytes() > 0) check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }
  void assign(const std::vector<T>& values) {
    if (bytes() > 0) check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
  }
  void spoil() {
    if (bytes() > 0) check(cudaMemset(data_, 0xff, bytes()));
  }

 private:
  [[nodiscard]] size_t bytes() const { return static_cast<size_t>(shape_.size()) * sizeof(T); }
  void allocate() {
    if (bytes() > 0) check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()));
  }
  T* data_ = nullptr;
  Shape shape_;
};

// The same values on both sides, for one lambda that runs a kernel on either: view them by on(device).
template <class T = float>
class Both {
 public:
  Both(Shape shape, std::vector<T> values) : shape_(shape), host_(std::move(values)), device_(shape, host_) {}
  [[nodiscard]] View<T> on(Cpu&) { return {host_.data(), shape_}; }
  [[nodiscard]] View<T> on(Cuda&) { return device_.view(); }
  [[nodiscard]] const std::vector<T>& host() const { return host_; }
  [[nodiscard]] std::vector<T> device() const { return device_.to_host(); }
  // The device's values become the host's.
  void share() { device_.assign(host_); }
  // Every byte of the device's 0xff, as of a DeviceArray without values.
  void spoil_device() { device_.spoil(); }

 private:
  Shape shape_;
  std::vector<T> host_;
  DeviceArray<T> device_;
};

// Nobody has written it, on neither side: an element left out shows.
template <class T>
[[nodiscard]] Both<T> unwritten(Shape shape) {
  return {shape, std::vector<T>(static_cast<size_t>(shape.size()), from_float<T>(kNaN))};
}

// Gives each test a Cuda executor on the default stream; skips the test where no device can be used.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
  }
  // body(executor), on the host and on the device.
  template <class Body>
  void on_both(Body&& body) {
    Cpu cpu(1);
    body(cpu);
    body(cuda);
  }
  Cuda cuda{nullptr};
};

}  // namespace gradlibra::testing
