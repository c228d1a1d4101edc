// SPDX-License-Identifier: MIT
// Context: everything a computation needs that is not data: executor, memory, convolution library. Made in main, passed
// down.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "kernels/executor.h"
#include "runtime/base/runtime_config.h"
#include "runtime/device/convolution.h"
#include "runtime/device/device.h"
#include "runtime/device/memory_pool.h"
#include "runtime/device/tensor.h"
#include "runtime/device/transfer.h"
#ifdef GRADLIBRA_HAVE_CUDA
#include "kernels/cuda.h"
#endif

namespace gradlibra {

#ifdef GRADLIBRA_HAVE_CUDA
using Executor = std::variant<Cpu, Cuda>;
#else
using Executor = std::variant<Cpu>;
#endif

// How many this process may use; 0 also where there is no driver, or the build has no CUDA.
[[nodiscard]] int visible_gpus();

enum class ConvolutionLibrary { best, plain };

// There is no GPU, or no driver for one.
class NoGpu : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Context {
 public:
  // A host context; threads <= 0: OMP_NUM_THREADS, or all processors of this process within its quota.
  explicit Context(int threads = 0, ConvolutionLibrary library = ConvolutionLibrary::best);
  // "cpu", "cuda" or "auto" (a GPU if one can be used, else the CPU). std::runtime_error says why "cuda" cannot be had
  // (NoGpu if there is none), why_no_gpu() why "auto" took the CPU. Of several GPUs it is number `place`, counted round
  // and round, and the calling thread's current one from then on.
  static std::unique_ptr<Context> for_device(const std::string& device, int threads = 0, int place = 0);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Calls body(executor) with the Cpu or the Cuda executor: the one place where an op meets the hardware.
  template <class Body>
  void run(Body&& body) {
    std::visit(body, executor_);
  }
  [[nodiscard]] bool on_host() const { return std::holds_alternative<Cpu>(executor_); }
  [[nodiscard]] const std::string& device_name() const { return name_; }  // "CPU, 2 threads, oneDNN"
  // A GPU's address on the PCI bus, as the driver writes it: "0000:3B:00.0"; empty on a host.
  [[nodiscard]] const std::string& bus_id() const { return bus_id_; }
  // Of what a GPU needs to be used: "CUDA 13.0 (driver 580.159.04, 13.0), cuDNN 9.19.0"; empty on a host.
  [[nodiscard]] const std::string& library_versions() const { return library_versions_; }
  [[nodiscard]] const std::string& why_no_gpu() const { return why_no_gpu_; }

  // Before any model is built on this context: its precision and its convolutions' tuning. A host computes tf32 by
  // rounding what it multiplies, and bf16 by rounding every map: to be compared, not to be fast.
  void configure(const RuntimeConfig& config);
  // How feature maps are stored: float, or bfloat16 in mixed precision.
  [[nodiscard]] DType map_dtype() const { return map_dtype_; }

  [[nodiscard]] MemoryPool& memory() { return *memory_; }
  [[nodiscard]] Convolution& convolution() { return *convolution_; }

  [[nodiscard]] Tensor empty(Shape shape, DType dtype = DType::f32) { return Tensor(*memory_, shape, dtype); }
  [[nodiscard]] Tensor zeros(Shape shape, DType dtype = DType::f32);

  // Host to device and back; sizes must agree. upload() may be used while earlier work still runs, download() waits for
  // it.
  template <class T>
  void upload(std::span<const T> values, Tensor& to) {
    require(to.dtype() == dtype_of<T>() && static_cast<int64_t>(values.size()) == to.size(), "upload",
            "size or type differs");
    device_->copy_in(values.data(), to.data(), to.bytes());
  }
  void upload_bytes(const void* host, Tensor& to) { device_->copy_in(host, to.data(), to.bytes()); }
  template <class T>
  [[nodiscard]] Tensor upload(std::span<const T> values, Shape shape) {
    Tensor to = empty(shape, dtype_of<T>());
    upload(values, to);
    return to;
  }
  template <class T>
  [[nodiscard]] std::vector<T> download(const Tensor& from) {
    std::vector<T> values(static_cast<size_t>(from.size()));
    device_->copy_out(from.template view<T>().data(), values.data(), from.bytes());
    return values;
  }
  void copy(const Tensor& from, Tensor& to);  // same size and type, on the device
  void zero(Tensor& t) { device_->zero(t.data(), t.bytes()); }
  void synchronize() { device_->synchronize(); }

  // Branches of work that may run side by side (runtime/device/device.h): whether the device has them and the
  // configuration wants them.
  [[nodiscard]] bool has_branches() const { return branches_; }
  // Whether deformable convolutions keep their columns for the backward pass.
  [[nodiscard]] bool keeps_columns() const { return keep_columns_; }
  [[nodiscard]] int mark() { return device_->mark(); }
  void await(int mark) { device_->await(mark); }
  void fork(int count);
  void use_branch(int branch);
  void join();

  [[nodiscard]] std::unique_ptr<Prefetch> make_prefetch() { return device_->make_prefetch(); }
  [[nodiscard]] std::unique_ptr<Readback> make_readback() { return device_->make_readback(); }
  // Records what `body` enqueues instead of running it. The memory it takes belongs to the result from then on; run the
  // same body before, so that all of it is in the pool. Null on a host, where nothing is recorded or run.
  [[nodiscard]] std::unique_ptr<CapturedWork> capture(const std::function<void()>& body);

 private:
  Context(Executor executor, std::unique_ptr<Device> device, std::string name);
  static std::unique_ptr<Context> on_gpu(int place);  // std::runtime_error says what is missing
  bool use_host_convolution();                        // whether it is oneDNN
  void configure_convolution(const RuntimeConfig& config);
  void follow_branch();  // the executor to the device's current stream

  Executor executor_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<MemoryPool> memory_;
  std::unique_ptr<Convolution> convolution_;
  ConvolutionLibrary library_ = ConvolutionLibrary::best;
  std::string name_, bus_id_, library_versions_, why_no_gpu_;
  DType map_dtype_ = DType::f32;
  bool branches_ = false, keep_columns_ = true;
};

}  // namespace gradlibra
