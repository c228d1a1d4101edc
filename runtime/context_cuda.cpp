// SPDX-License-Identifier: MIT
// The GPU side of Context: the choice of a device.
#include "kernels/elementwise.h"
#include "runtime/context.h"
#include "runtime/cuda_memory.h"

namespace gradlibra {

namespace {

// Empty if there is a GPU, else why not.
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

// Throws std::runtime_error if the device has no memory pools, or if a kernel of this program does not run on it.
void try_out(const CudaMemory& memory, int device, const cudaDeviceProp& properties) {
  int has_pools = 0;
  check(cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, device));
  if (has_pools == 0) throw std::runtime_error(std::string(properties.name) + " has no stream-ordered memory");
  const std::string capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  try {
    float* value = nullptr;
    check(cudaMallocAsync(&value, sizeof(float), memory.stream()));
    Cuda executor(memory.stream());
    kernels::fill<float>(executor, {value, {1}}, 0.0f);
    check(cudaFreeAsync(value, memory.stream()));
    check(cudaStreamSynchronize(memory.stream()));
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(std::string(properties.name) + " (compute capability " + capability +
                             ") does not run this program's kernels; a build with -DCMAKE_CUDA_ARCHITECTURES=" +
                             std::to_string(properties.major) + std::to_string(properties.minor) + " may: " + e.what());
  }
}

}  // namespace

std::unique_ptr<Context> Context::on_gpu() {
  const std::string problem = cuda_problem();
  if (!problem.empty()) throw std::runtime_error(problem);
  int index = 0;
  check(cudaGetDevice(&index));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index));
  auto memory = std::make_unique<CudaMemory>();
  try_out(*memory, index, properties);
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

std::unique_ptr<Context> Context::for_device(const std::string& device, int threads) {
  if (device == "cpu") return std::make_unique<Context>(threads);
  std::string problem;
  try {
    return on_gpu();
  } catch (const std::runtime_error& e) {
    problem = e.what();
  }
  if (device == "cuda") throw std::runtime_error("--device cuda: " + problem + "; or use --device cpu");
  auto context = std::make_unique<Context>(threads);
  context->why_no_gpu_ = problem;
  return context;
}

void Context::follow_branch() {
  if (auto* memory = dynamic_cast<CudaMemory*>(device_memory_.get())) executor_ = Cuda(memory->stream());
}

void Context::configure_convolution(const RuntimeConfig& config) {
  convolution_ = make_cudnn_convolution(
      *this, {.float_math = config.precision == "tf32" ? FloatMath::tf32 : FloatMath::fp32,
              .tuning = config.conv_tuning == "timed" ? ConvTuning::timed : ConvTuning::heuristic,
              .deterministic = config.deterministic});
  if (!convolution_) convolution_ = make_plain_convolution(*this);
}

}  // namespace gradlibra
