// SPDX-License-Identifier: MIT
// The GPU side of Context: memory, copies, and the choice of a device.
#include "kernels/cuda.h"
#include "runtime/context.h"

namespace gradlibra {

namespace {

// One stream for everything; blocks come from cudaMalloc once and then stay in the pool.
class CudaMemory final : public DeviceMemory {
 public:
  CudaMemory() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaMemory() override { cudaStreamDestroy(stream_); }

  void* allocate(size_t bytes) override {
    void* block = nullptr;
    if (cudaMalloc(&block, bytes) == cudaSuccess) return block;
    cudaGetLastError();  // out of memory is not sticky
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw std::runtime_error("the GPU has " + std::to_string(free >> 20) + " MiB left of " +
                             std::to_string(total >> 20) + ", " + std::to_string(bytes >> 20) +
                             " MiB more were needed: use a smaller loader.batch_size or image size");
  }
  void release(void* block, size_t) noexcept override { cudaFree(block); }
  // Pageable memory: the call returns when the host buffer has been read.
  void copy_in(const void* host, void* device, size_t bytes) override {
    if (bytes > 0) check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_));
  }
  void copy_out(const void* device, void* host, size_t bytes) override {
    if (bytes > 0) check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_));
    synchronize();
  }
  void copy(const void* from, void* to, size_t bytes) override {
    if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
  }
  void zero(void* block, size_t bytes) override {
    if (bytes > 0) check(cudaMemsetAsync(block, 0, bytes, stream_));
  }
  void synchronize() override { check(cudaStreamSynchronize(stream_)); }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Empty if a GPU can be used, else why not.
std::string cuda_problem() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return "";
  if (status == cudaErrorInsufficientDriver)
    return "no NVIDIA driver, or one older than this program's CUDA; install or update the driver";
  if (status == cudaSuccess || status == cudaErrorNoDevice)
    return "no NVIDIA GPU was found (is CUDA_VISIBLE_DEVICES set?)";
  return cudaGetErrorString(status);
}

}  // namespace

std::unique_ptr<Context> Context::for_device(const std::string& device, int threads) {
  const std::string problem = device == "cpu" ? "not asked for" : cuda_problem();
  if (device == "cuda" && !problem.empty())
    throw std::runtime_error("--device cuda: " + problem + "; or use --device cpu");
  if (!problem.empty()) return std::make_unique<Context>(threads);

  int index = 0;
  check(cudaGetDevice(&index));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index));
  auto memory = std::make_unique<CudaMemory>();
  const Cuda executor(memory->stream());
  const std::string name =
      std::string(properties.name) + ", " + std::to_string(properties.totalGlobalMem >> 20) + " MiB";
  std::unique_ptr<Context> context(new Context(Executor(executor), std::move(memory), name));
  context->convolution_ = make_plain_convolution(*context);
  return context;
}

}  // namespace gradlibra
