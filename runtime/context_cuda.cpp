// SPDX-License-Identifier: MIT
// The GPU side of Context: the choice of a device.
#include "runtime/context.h"
#include "runtime/cuda_memory.h"

namespace gradlibra {

namespace {

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
  context->configure({});
#ifdef GRADLIBRA_HAVE_CUDNN
  context->name_ += ", cuDNN";
#else
  context->name_ += ", plain convolutions";
#endif
  return context;
}

void Context::configure_convolution(const RuntimeConfig& config) {
  if (on_host()) return;
  convolution_ = make_cudnn_convolution(
      *this, {.float_math = config.precision == "tf32" ? FloatMath::tf32 : FloatMath::fp32,
              .tuning = config.conv_tuning == "timed" ? ConvTuning::timed : ConvTuning::heuristic,
              .deterministic = config.deterministic});
  if (!convolution_) convolution_ = make_plain_convolution(*this);
}

}  // namespace gradlibra
