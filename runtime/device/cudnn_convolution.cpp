// SPDX-License-Identifier: MIT
// Convolution on the GPU through cuDNN: one plan per problem, looked up at its first call and kept.
#include <bit>
#include <map>

#include "kernels/convolution/bias_activation.h"
#include "kernels/convolution/space_to_depth.h"
#include "kernels/cuda.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "runtime/device/context.h"
#include "runtime/device/cublaslt_plan_cache.h"
#include "runtime/device/cudnn_handle.h"
#include "runtime/device/cudnn_plan_cache.h"
#include "runtime/device/timer.h"

namespace gradlibra {

namespace {

using kernels::ConvDims;
using kernels::ConvShape;
using Kind = CudnnProblem::Kind;

cudaStream_t stream_of(Context& context) {
  cudaStream_t stream = nullptr;
  context.run([&](auto& device) {
    if constexpr (std::is_same_v<std::decay_t<decltype(device)>, Cuda>) stream = device.stream();
  });
  return stream;
}

void require_one_type(const char* op, DType a, DType b) {
  require((a == DType::f32 || a == DType::bf16) && a == b, op,
          "maps and weights of one call are all float or all bfloat16");
}

// A step's calls after the first of each shape neither allocate, nor wait, nor touch a stream but the context's, so
// they can be recorded in a CUDA graph. A first call builds a plan and may do all three.
class CudnnConvolution final : public Convolution {
 public:
  CudnnConvolution(Context& context, const CudnnOptions& options)
      : context_(context), options_(options), zeros_(context.zeros({kZeroBytes}, DType::u8)) {
    handle();  // a cuDNN that does not fit shows here and not in the middle of a step
  }

  // One graph does everything where a ready-made engine can. Otherwise one of our kernels does in place what comes
  // behind the convolution: one more pass over y and, in bfloat16, one more rounding. So for bfloat16 maps whose
  // channels 8 does not divide.
  void forward(const Forward& call) override {
    const ConvDims dims = kernels::conv_dims("conv2d", call.x.shape(), call.weight.shape(), call.y.shape(), call.shape);
    require_one_type("conv2d", call.x.dtype(), call.y.dtype());
    require_one_type("conv2d", call.weight.dtype(), call.y.dtype());
    if (!call.bias.empty()) {
      require_one_type("conv2d", call.bias.dtype(), call.y.dtype());
      require_shape("conv2d", "bias", call.bias.shape(), {dims.K});
    }
    if (!call.residual.empty()) {
      require_one_type("conv2d", call.residual.dtype(), call.y.dtype());
      require_shape("conv2d", "residual", call.residual.shape(), call.y.shape());
    }
    if (call.y.size() == 0) return;
    if (is_better_in_blocks(dims, call.y.dtype())) return forward_in_blocks(call, dims);
    CudnnProblem problem{.kind = Kind::forward,
                         .dims = dims,
                         .maps = call.y.dtype(),
                         .result = call.y.dtype(),
                         .bias = !call.bias.empty(),
                         .residual = !call.residual.empty(),
                         .activation = call.activation};
    CudnnOperands all{.first = call.x.data(),
                      .second = call.weight.data(),
                      .result = call.y.data(),
                      .bias = call.bias.data(),
                      .residual = call.residual.data()};
    // The ready-made engines that add or clip also want a bias.
    const bool fuses = problem.residual || problem.activation != kernels::Activation::none;
    if (fuses && !problem.bias && dims.K * static_cast<int64_t>(size_of(problem.maps)) <= kZeroBytes) {
      problem.bias = true;
      all.bias = zeros_.data();
    }
    if (try_product(problem, all) || try_run(problem, all)) return;

    const CudnnProblem convolution{.dims = dims, .maps = problem.maps, .result = problem.result};
    run(convolution, {.first = all.first, .second = all.second, .result = all.result});
    context_.run([&](auto& device) {
      if (call.y.dtype() == DType::bf16)
        finish<bfloat16>(device, call);
      else
        finish<float>(device, call);
    });
  }

  // Where no ready-made engine adds to grad_x, one of our kernels does: a pass over grad_x and, in bfloat16, one more
  // rounding.
  void backward_data(ConstMap grad_y, ConstMap weight, const ConvShape& shape, Map grad_x, Accumulate mode) override {
    const ConvDims dims =
        kernels::conv_dims("conv2d_backward_data", grad_x.shape(), weight.shape(), grad_y.shape(), shape);
    require_one_type("conv2d_backward_data", grad_y.dtype(), grad_x.dtype());
    require_one_type("conv2d_backward_data", weight.dtype(), grad_x.dtype());
    if (grad_x.size() == 0) return;
    CudnnProblem problem{
        .kind = Kind::backward_data, .dims = dims, .maps = grad_x.dtype(), .result = grad_x.dtype(), .mode = mode};
    CudnnOperands operands{.first = grad_y.data(), .second = weight.data(), .result = grad_x.data()};
    if (try_product(problem, operands)) return;
    if (mode == Accumulate::overwrite) return run(problem, operands);
    if (try_run(problem, operands)) return;

    problem.mode = Accumulate::overwrite;
    Tensor sum = context_.empty(grad_x.shape(), grad_x.dtype());
    operands.result = sum.data();
    run(problem, operands);
    context_.run([&](auto& device) {
      if (sum.dtype() == DType::bf16)
        kernels::copy(device, sum.view<bfloat16>(), grad_x.view<bfloat16>(), Accumulate::add);
      else
        kernels::copy(device, sum.view(), grad_x.view(), Accumulate::add);
    });
  }

  void backward_weight(ConstMap x, ConstMap grad_y, const ConvShape& shape, Map grad_weight, View<float> grad_bias,
                       Accumulate mode) override {
    const ConvDims dims =
        kernels::conv_dims("conv2d_backward_weight", x.shape(), grad_weight.shape(), grad_y.shape(), shape);
    require_one_type("conv2d_backward_weight", x.dtype(), grad_y.dtype());
    if (grad_bias.data() != nullptr) require_shape("conv2d_backward_weight", "grad_bias", grad_bias, {dims.K});
    if (grad_y.size() == 0) {
      if (mode == Accumulate::add) return;
      const auto bytes = static_cast<int64_t>(size_of(grad_weight.dtype())) * grad_weight.size();
      Tensor all = Tensor::borrow(static_cast<uint8_t*>(grad_weight.data()), {bytes});
      context_.zero(all);
      if (grad_bias.data() != nullptr) context_.run([&](auto& device) { kernels::fill(device, grad_bias, 0.0f); });
      return;
    }
    if (grad_weight.dtype() == DType::f32) {
      weight_gradient(dims, x, grad_y, grad_weight.view(), mode);
    } else {
      require(mode == Accumulate::overwrite && x.dtype() == grad_weight.dtype(), "conv2d_backward_weight",
              "a gradient of the maps' type is overwritten");
      const CudnnProblem problem{
          .kind = Kind::backward_weight, .dims = dims, .maps = x.dtype(), .result = grad_weight.dtype()};
      const CudnnOperands operands{.first = x.data(), .second = grad_y.data(), .result = grad_weight.data()};
      if (!try_product(problem, operands)) run(problem, operands);
    }
    if (grad_bias.data() == nullptr) return;
    Tensor workspace = context_.empty({kernels::sum_rows_workspace(dims.N * dims.P * dims.Q, dims.K)});
    context_.run([&](auto& device) {
      if (grad_y.dtype() == DType::bf16)
        kernels::sum_rows(device, grad_y.view<bfloat16>(), grad_bias, mode, workspace.view());
      else
        kernels::sum_rows(device, grad_y.view(), grad_bias, mode, workspace.view());
    });
  }

  Fusion fusion() const override {
    Fusion result;
    for (const auto& [key, cached] : plans_) {
      const auto& [engines, problem] = key;
      if (problem.kind != Kind::forward || engines != CudnnEngines::ready_made) continue;
      const bool fuses = problem.bias || problem.residual || problem.activation != kernels::Activation::none;
      if (cached->plan != nullptr && fuses) ++result.fused;
      if (cached->plan == nullptr && fuses) result.apart.push_back(problem.to_string());
    }
    for (const auto& [problem, cached] : products_)
      if (cached->chosen && problem.activation != kernels::Activation::none) ++result.fused;
    return result;
  }

  std::vector<TimedProduct> timed_products() const override {
    std::vector<TimedProduct> result;
    for (const auto& [problem, cached] : products_)
      if (cached->milliseconds > 0)
        result.push_back({problem.to_string(), cached->milliseconds, cached->cudnn_milliseconds});
    return result;
  }

 private:
  static constexpr int64_t kZeroBytes = 1 << 16;

  // A network's first convolution, on three channels at stride 2, has no engine that uses tensor cores well (29 TFLOP/s
  // on an H100).
  [[nodiscard]] bool is_better_in_blocks(const ConvDims& d, DType maps) const {
    const bool tensor_cores = maps == DType::bf16 || options_.float_math == FloatMath::tf32;
    return tensor_cores && d.stride == 2 && d.dilation == 1 && d.C <= 4 && d.R * d.S > 1 && d.K % 8 == 0;
  }

  // The same sums with stride 1 on blocks of 2 x 2 pixels (kernels/convolution/space_to_depth.h).
  void forward_in_blocks(const Forward& call, const ConvDims& d) {
    const kernels::BlockTaps rows = kernels::block_taps(d.R, d.padding), columns = kernels::block_taps(d.S, d.padding);
    const int64_t channels = (4 * d.C + 7) / 8 * 8;
    Tensor blocks = context_.empty({d.N, d.P + rows.count - 1, d.Q + columns.count - 1, channels}, call.x.dtype());
    Tensor weight = context_.empty({d.K, rows.count, columns.count, channels}, call.x.dtype());
    context_.run([&](auto& device) {
      const auto rearrange = [&]<class T>(T) {
        kernels::space_to_depth<T>(device, call.x.view<T>(), 2 * rows.first, blocks.view<T>());
        kernels::space_to_depth<T>(device, call.weight.view<T>(), 2 * rows.first + d.padding, weight.view<T>());
      };
      call.x.dtype() == DType::bf16 ? rearrange(bfloat16{}) : rearrange(0.0f);
    });
    Forward in_blocks = call;
    in_blocks.x = blocks;
    in_blocks.weight = weight;
    in_blocks.shape = {};
    forward(in_blocks);
  }

  // y = activation(y + residual + bias)
  template <class T>
  static void finish(auto& device, const Forward& call) {
    const View<T> y = call.y.view<T>();
    kernels::bias_activation<T>(device, y, call.bias_view<T>(), call.residual_view<T>(), call.activation, y);
  }

  // The sum over a batch is float also where the maps are bfloat16. cuDNN 9.19 has no engine on an H100 that stores it
  // so (an entry in plans_ remembers that); then it is rounded to bfloat16 once, as it is stored.
  void weight_gradient(const ConvDims& dims, ConstMap x, ConstMap grad_y, View<float> grad_weight, Accumulate mode) {
    CudnnProblem problem{.kind = Kind::backward_weight, .dims = dims, .maps = x.dtype(), .result = DType::f32};
    CudnnOperands operands{.first = x.data(), .second = grad_y.data(), .result = grad_weight.data()};
    CudnnProblem in_place = problem;  // a matrix product stores float, and adds, by itself
    in_place.mode = mode;
    if (try_product(in_place, operands)) return;
    Tensor sum;
    if (mode == Accumulate::add) {
      sum = context_.empty(grad_weight.shape());
      operands.result = sum.data();
    }
    if (try_run(problem, operands)) {
      if (mode == Accumulate::add)
        context_.run([&](auto& device) { kernels::copy(device, sum.view(), grad_weight, Accumulate::add); });
      return;
    }
    problem.result = problem.maps;
    sum = context_.empty(grad_weight.shape(), problem.result);
    operands.result = sum.data();
    run(problem, operands);
    context_.run([&](auto& device) { kernels::cast(device, sum.view<bfloat16>(), grad_weight, mode); });
  }

  // Lets cuBLASLt compute a matrix product that it is to compute. False: it is cuDNN's.
  bool try_product(const CudnnProblem& problem, const CudnnOperands& operands) {
    if (options_.products == MatrixProducts::cudnn || !is_matrix_product(problem.dims)) return false;
    if (options_.tuning == ConvTuning::heuristic && !prefers_cublaslt(problem)) return false;
    if (!CublasltPlan::is_aligned(operands)) return false;
    const CachedCublasltPlan& cached = product_of(problem, operands);
    if (!cached.chosen) return false;
    Tensor scratch = workspace(cached.plan->workspace_bytes());
    cached.plan->run(stream_of(context_), operands, scratch.data());
    return true;
  }

  const CachedCublasltPlan& product_of(const CudnnProblem& problem, const CudnnOperands& operands) {
    if (const auto met = products_.find(problem); met != products_.end()) return *met->second;
    const CachedCublasltPlan& cached = cached_cublaslt_plan(problem, options_, [&](CachedCublasltPlan& made) {
      made.chosen = true;
      if (options_.tuning == ConvTuning::timed) choose_product(problem, operands, made);
    });
    products_.emplace(problem, &cached);
    return cached;
  }

  // The fastest of cuBLASLt's plans, then the faster of that and of cuDNN's way to the same result.
  void choose_product(const CudnnProblem& problem, CudnnOperands operands, CachedCublasltPlan& made) {
    const ConvDims& d = problem.dims;
    const Shape shape = problem.kind == Kind::forward         ? Shape{d.N, d.P, d.Q, d.K}
                        : problem.kind == Kind::backward_data ? Shape{d.N, d.H, d.W, d.C}
                                                              : Shape{d.K, d.R, d.S, d.C};
    Tensor tried_on = context_.zeros(shape, problem.result);  // the caller's result is written, or added to, once
    operands.result = tried_on.data();
    const cudaStream_t stream = stream_of(context_);
    Tensor scratch = workspace(made.plan->workspace_bytes());
    check(cudaDeviceSynchronize());  // other branches would run beside what is timed
    made.plan->tune(stream, operands, scratch.data());

    CudnnProblem alone = problem;
    Tensor rounded;
    if (problem.kind == Kind::backward_weight) {  // cuDNN's is of the maps' type and overwrites: a kernel does the rest
      alone.mode = Accumulate::overwrite;
      alone.result = problem.maps;
      rounded = context_.empty(shape, problem.maps);
      operands.result = rounded.data();
    }
    const CachedCudnnPlan& cudnn = plan_of(alone, operands, CudnnEngines::ready_made);
    if (cudnn.plan == nullptr) return;
    CudnnOperands own = operands;
    own.result = tried_on.data();
    Tensor cudnn_scratch = workspace(cudnn.plan->workspace_bytes());
    made.milliseconds = milliseconds([&] { made.plan->run(stream, own, scratch.data()); });
    made.cudnn_milliseconds = milliseconds([&] {
      cudnn.plan->run(handle(), operands, cudnn_scratch.data());
      if (problem.kind != Kind::backward_weight) return;
      context_.run([&](auto& device) {
        if (problem.result != problem.maps)
          kernels::cast(device, rounded.view<bfloat16>(), tried_on.view<float>(), problem.mode);
        else if (problem.mode == Accumulate::add)
          kernels::copy(device, rounded.view<float>(), tried_on.view<float>(), problem.mode);
      });
    });
    made.chosen = made.milliseconds < made.cudnn_milliseconds;
  }

  // A run's, the mean of several behind one that does not count.
  template <class Body>
  double milliseconds(Body body) {
    constexpr int kRuns = 10;
    std::unique_ptr<Timer> timer;
    context_.run([&](auto& device) { timer = make_timer(device); });
    body();
    timer->start();
    for (int run = 0; run < kRuns; ++run) body();
    return timer->stop() * 1e3 / kRuns;
  }

  // False if no such engine computes the problem.
  bool try_run(const CudnnProblem& problem, const CudnnOperands& operands,
               CudnnEngines engines = CudnnEngines::ready_made) {
    const CachedCudnnPlan& cached = plan_of(problem, operands, engines);
    if (cached.plan == nullptr) return false;
    Tensor scratch = workspace(cached.plan->workspace_bytes());
    cached.plan->run(handle(), operands, scratch.data());
    return true;
  }

  void run(const CudnnProblem& problem, const CudnnOperands& operands) {
    if (try_run(problem, operands) || try_run(problem, operands, CudnnEngines::any)) return;
    throw std::runtime_error("cuDNN " + cudnn_version_text(cudnnGetVersion()) + " has no engine for the " +
                             problem.to_string() + ": " + plan_of(problem, operands, CudnnEngines::any).why);
  }

  // Of the current branch. Each has its own: engines that use streams of the handle's besides would tie branches
  // together.
  cudnnHandle_t handle() {
    const cudaStream_t stream = stream_of(context_);
    CudnnHandle& handle = handles_[stream];
    if (handle == nullptr) handle = make_cudnn_handle(stream);
    return handle.get();
  }

  const CachedCudnnPlan& plan_of(const CudnnProblem& problem, CudnnOperands operands, CudnnEngines engines) {
    const std::pair key{engines, problem};
    if (const auto met = plans_.find(key); met != plans_.end()) return *met->second;
    const CachedCudnnPlan& cached = cached_cudnn_plan(problem, options_, engines, [&](CudnnPlan& plan) {
      if (!plan.can_tune()) return;
      Tensor scratch = workspace(plan.workspace_bytes()), tried_on;
      if (problem.mode == Accumulate::add) {  // the caller's grad_x is added to once, by run()
        const ConvDims& d = problem.dims;
        tried_on = context_.zeros({d.N, d.H, d.W, d.C}, problem.result);
        operands.result = tried_on.data();
      }
      check(cudaDeviceSynchronize());  // other branches would run beside what is timed
      plan.tune(handle(), operands, scratch.data());
    });
    plans_.emplace(key, &cached);
    return cached;
  }

  // From the context's pool, so that convolutions share it with everything else. Sizes are powers of two: the pool
  // keeps a list for each size, and there are about as many sizes as plans.
  Tensor workspace(int64_t needed) {
    constexpr uint64_t kLeast = 1 << 16;
    const uint64_t bytes = std::bit_ceil(std::max(static_cast<uint64_t>(needed), kLeast));
    return context_.empty({static_cast<int64_t>(bytes)}, DType::u8);
  }

  Context& context_;
  CudnnOptions options_;
  Tensor zeros_;                                                                   // the bias of what has none
  std::map<cudaStream_t, CudnnHandle> handles_;                                    // by the stream of a branch
  std::map<std::pair<CudnnEngines, CudnnProblem>, const CachedCudnnPlan*> plans_;  // met so far
  std::map<CudnnProblem, const CachedCublasltPlan*> products_;                     // of cuBLASLt's
};

}  // namespace

std::unique_ptr<Convolution> make_cudnn_convolution(Context& context, const CudnnOptions& options) {
  if (context.on_host()) return nullptr;
  return std::make_unique<CudnnConvolution>(context, options);
}

}  // namespace gradlibra
