// SPDX-License-Identifier: MIT
// The GPU side of Context: the choice of a device.
#include <array>
#include <fstream>
#include <iterator>

#include "kernels/elementwise.h"
#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/driver_version.h"
#ifdef GRADLIBRA_HAVE_CUDNN
#include <cudnn.h>

#include "runtime/device/cublaslt_library.h"
#endif

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

std::string version_text(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

std::string versions_in_use() {
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime));
  check(cudaDriverGetVersion(&driver));
  std::ifstream file("/proc/driver/nvidia/version");
  const std::string kernel = driver_version(std::string(std::istreambuf_iterator<char>(file), {}));
  std::string text = "CUDA " + version_text(runtime) + " (driver " + (kernel.empty() ? "" : kernel + ", ") +
                     version_text(driver) + ")";
#ifdef GRADLIBRA_HAVE_CUDNN
  const auto cudnn = static_cast<int>(cudnnGetVersion());  // 91900 is 9.19.0
  text += ", cuDNN " + std::to_string(cudnn / 10000) + "." + std::to_string(cudnn / 100 % 100) + "." +
          std::to_string(cudnn % 100);
#endif
  return text;
}

// Throws std::runtime_error if a kernel of this program does not run on the device.
void try_out(const CudaDevice& device, const cudaDeviceProp& properties) {
  float* value = nullptr;
  check(cudaMallocAsync(&value, sizeof(float), device.stream()));
  try {
    Cuda executor(device.stream());
    kernels::fill<float>(executor, {value, {1}}, 0.0f);
    check(cudaStreamSynchronize(device.stream()));
  } catch (const std::runtime_error& e) {
    const std::string major = std::to_string(properties.major), minor = std::to_string(properties.minor);
    throw std::runtime_error(std::string(properties.name) + " does not run this program's kernels (" + e.what() +
                             "); its compute capability is " + major + "." + minor +
                             ", -DCMAKE_CUDA_ARCHITECTURES=" + major + minor + " builds for it");
  }
  check(cudaFreeAsync(value, device.stream()));
}

}  // namespace

int visible_gpus() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess ? devices : 0;
}

std::unique_ptr<Context> Context::on_gpu(int place) {
  const std::string problem = cuda_problem();
  if (!problem.empty()) throw NoGpu("no usable GPU: " + problem);
  const int index = place % visible_gpus();
  check(cudaSetDevice(index));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index));
  int has_pools = 0;
  check(cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, index));
  if (has_pools == 0) throw std::runtime_error(std::string(properties.name) + " has no stream-ordered memory");
  auto device = std::make_unique<CudaDevice>();
  try_out(*device, properties);
  const Cuda executor(device->stream());
  const std::string name =
      std::string(properties.name) + ", " + std::to_string(properties.totalGlobalMem >> 20) + " MiB";
  std::unique_ptr<Context> context(new Context(Executor(executor), std::move(device), name));
  std::array<char, 32> bus_id{};
  check(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), index));
  context->bus_id_ = bus_id.data();
  context->library_versions_ = versions_in_use();
  context->configure({});
#ifdef GRADLIBRA_HAVE_CUDNN
  context->name_ += ", cuDNN";
  std::string why;
  if (cublaslt(why) == nullptr) context->name_ += " without cuBLASLt (" + why + ")";
#else
  context->name_ += ", plain convolutions";
#endif
  return context;
}

std::unique_ptr<Context> Context::for_device(const std::string& device, int threads, int place) {
  if (device == "cpu") return std::make_unique<Context>(threads);
  const auto explained = [](const std::exception& e) {
    return std::string("--device cuda: ") + e.what() + "; or use --device cpu";
  };
  std::string problem;
  try {
    return on_gpu(place);
  } catch (const NoGpu& e) {
    if (device == "cuda") throw NoGpu(explained(e));
    problem = e.what();
  } catch (const std::runtime_error& e) {
    if (device == "cuda") throw std::runtime_error(explained(e));
    problem = e.what();
  }
  auto context = std::make_unique<Context>(threads);
  context->why_no_gpu_ = problem;
  return context;
}

void Context::follow_branch() {
  if (auto* device = dynamic_cast<CudaDevice*>(device_.get())) executor_ = Cuda(device->stream());
}

void Context::configure_convolution(const RuntimeConfig& config) {
  convolution_ = make_cudnn_convolution(
      *this, {.float_math = config.precision == "tf32" ? FloatMath::tf32 : FloatMath::fp32,
              .tuning = config.conv_tuning == "timed" ? ConvTuning::timed : ConvTuning::heuristic,
              .products = config.matrix_products == "cudnn" ? MatrixProducts::cudnn : MatrixProducts::automatic,
              .deterministic = config.deterministic});
  if (!convolution_) convolution_ = make_plain_convolution(*this);
}

}  // namespace gradlibra
