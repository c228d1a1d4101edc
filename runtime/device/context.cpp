// SPDX-License-Identifier: MIT
#include "runtime/device/context.h"

#include <cstdlib>

#include "runtime/base/processors.h"

namespace gradlibra {

namespace {

// As many threads as asked for, else as OpenMP would take (OMP_NUM_THREADS), within the quota if nobody has said how
// many.
Cpu host_executor(int threads) {
  if (threads > 0 || std::getenv("OMP_NUM_THREADS") != nullptr) return Cpu(threads);
  return Cpu(usable_processors());
}

}  // namespace

Context::Context(Executor executor, std::unique_ptr<Device> device, std::string name)
    : executor_(executor),
      device_(std::move(device)),
      memory_(std::make_unique<MemoryPool>(*device_)),
      name_(std::move(name)) {}

Context::Context(int threads, ConvolutionLibrary library)
    : Context(Executor(host_executor(threads)), std::make_unique<HostDevice>(), "CPU") {
  library_ = library;
  const std::string convolutions = use_host_convolution() ? "oneDNN" : "plain loops";
  const int used = std::get<Cpu>(executor_).threads();
  name_ += ", " + std::to_string(used) + (used == 1 ? " thread, " : " threads, ") + convolutions;
}

bool Context::use_host_convolution() {
  convolution_ = library_ == ConvolutionLibrary::best ? make_onednn_convolution(*this) : nullptr;
  if (convolution_) return true;
  convolution_ = make_plain_convolution(*this);
  return false;
}

Context::~Context() {
  try {
    synchronize();  // what still runs uses what is about to go
  } catch (const std::exception&) {
    // A device that has failed has nothing left to wait for.
  }
  convolution_.reset();  // its scratch memory goes back to the pool first
}

namespace {

// Recorded work and the memory that no one else may have meanwhile.
class OwningCapture final : public CapturedWork {
 public:
  OwningCapture(std::unique_ptr<CapturedWork> work, MemoryPool& pool, std::vector<MemoryPool::Block> blocks)
      : work_(std::move(work)), pool_(pool), blocks_(std::move(blocks)) {}
  ~OwningCapture() override {
    work_ = nullptr;
    pool_.restore(blocks_);
  }
  void launch() override { work_->launch(); }

 private:
  std::unique_ptr<CapturedWork> work_;
  MemoryPool& pool_;
  std::vector<MemoryPool::Block> blocks_;
};

}  // namespace

std::unique_ptr<CapturedWork> Context::capture(const std::function<void()>& body) {
  if (on_host()) return nullptr;
  memory_->start_recording();
  std::unique_ptr<CapturedWork> work;
  try {
    work = device_->capture(body);
  } catch (...) {
    memory_->restore(memory_->stop_recording());
    throw;
  }
  return std::make_unique<OwningCapture>(std::move(work), *memory_, memory_->stop_recording());
}

Tensor Context::zeros(Shape shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  zero(t);
  return t;
}

void Context::copy(const Tensor& from, Tensor& to) {
  require(from.dtype() == to.dtype() && from.size() == to.size(), "Context::copy", "size or type differs");
  device_->copy(from.data(), to.data(), from.bytes());
}

void Context::configure(const RuntimeConfig& config) {
  map_dtype_ = config.precision == "bf16" ? DType::bf16 : DType::f32;
  branches_ = !on_host() && config.parallel_levels;
  keep_columns_ = config.keep_columns;
  if (!on_host()) return configure_convolution(config);
  use_host_convolution();
  if (config.precision == "tf32") convolution_ = make_tf32_convolution(*this, std::move(convolution_));
}

void Context::fork(int count) {
  device_->fork(count);
  memory_->fork();
}

void Context::use_branch(int branch) {
  device_->use_branch(branch);
  memory_->use_branch(branch);
  follow_branch();
}

void Context::join() {
  memory_->join();
  try {
    device_->join();
  } catch (...) {
    follow_branch();  // to the stream that is current now, join or not
    throw;
  }
  follow_branch();
}

#ifndef GRADLIBRA_HAVE_CUDA
void Context::configure_convolution(const RuntimeConfig&) {}
void Context::follow_branch() {}

// The twin with a GPU is in context_cuda.cpp.
int visible_gpus() { return 0; }

std::unique_ptr<Context> Context::for_device(const std::string& device, int threads, int) {
  if (device == "cuda")
    throw NoGpu(
        "--device cuda: this program was built without CUDA; install the CUDA toolkit and build again, or use --device "
        "cpu");
  auto context = std::make_unique<Context>(threads);
  if (device == "auto") context->why_no_gpu_ = "this program was built without CUDA";
  return context;
}
#endif

}  // namespace gradlibra
