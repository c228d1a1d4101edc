// SPDX-License-Identifier: MIT
// What TF32 tensor cores compute, on a host: the factors of every product are rounded to ten bits of mantissa, sums
// stay float. There to be compared with the other precisions, not to be fast.
#include <algorithm>
#include <bit>

#include "kernels/parallel.h"
#include "kernels/reduce.h"
#include "runtime/device/context.h"

namespace gradlibra {

namespace {

// To nearest, ties to even; infinities and NaN as they are.
float round_to_tf32(float value) {
  constexpr uint32_t kDropped = 13, kHalf = 1u << (kDropped - 1), kExponent = 0x7f800000u;
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & kExponent) == kExponent) return value;
  const uint32_t odd = bits >> kDropped & 1u;
  return std::bit_cast<float>((bits + kHalf - 1 + odd) >> kDropped << kDropped);
}

class Tf32Convolution final : public Convolution {
 public:
  Tf32Convolution(Context& context, std::unique_ptr<Convolution> exact) : context_(context), exact_(std::move(exact)) {}

  void forward(const Forward& call) override {
    if (call.x.dtype() != DType::f32) return exact_->forward(call);
    const Tensor x = rounded(call.x), weight = rounded(call.weight);
    Forward with_rounded = call;
    with_rounded.x = x;
    with_rounded.weight = weight;
    exact_->weight_changed(weight.data());  // it lies where another one may have lain
    exact_->forward(with_rounded);
  }

  void backward_data(ConstMap grad_y, ConstMap weight, const kernels::ConvShape& shape, Map grad_x,
                     Accumulate mode) override {
    if (grad_y.dtype() != DType::f32) return exact_->backward_data(grad_y, weight, shape, grad_x, mode);
    const Tensor factor = rounded(grad_y), rounded_weight = rounded(weight);
    exact_->weight_changed(rounded_weight.data());
    exact_->backward_data(factor, rounded_weight, shape, grad_x, mode);
  }

  // The bias has no factor, and gets the gradient as it is.
  void backward_weight(ConstMap x, ConstMap grad_y, const kernels::ConvShape& shape, Map grad_weight,
                       View<float> grad_bias, Accumulate mode) override {
    if (x.dtype() != DType::f32) return exact_->backward_weight(x, grad_y, shape, grad_weight, grad_bias, mode);
    const Tensor rounded_x = rounded(x), factor = rounded(grad_y);
    exact_->backward_weight(rounded_x, factor, shape, grad_weight, {}, mode);
    if (grad_bias.data() == nullptr) return;
    const int64_t K = grad_bias.size();
    Tensor workspace = context_.empty({kernels::sum_rows_workspace(grad_y.size() / std::max<int64_t>(K, 1), K)});
    context_.run([&](auto& device) { kernels::sum_rows(device, grad_y.view(), grad_bias, mode, workspace.view()); });
  }

  void weights_changed() override { exact_->weights_changed(); }
  void weight_changed(const void* weight) override { exact_->weight_changed(weight); }

 private:
  Tensor rounded(ConstMap map) {
    Tensor result = context_.empty(map.shape());
    context_.run([&](auto& device) {
      if constexpr (std::is_same_v<std::decay_t<decltype(device)>, Cpu>) {
        constexpr int64_t kGrain = 32768;
        parallel_chunks(device, map.size(), kGrain,
                        [from = map.view().data(), to = result.view().data()](int64_t, int64_t begin, int64_t end) {
                          for (int64_t i = begin; i < end; ++i) to[i] = round_to_tf32(from[i]);
                        });
      }
    });
    return result;
  }

  Context& context_;
  std::unique_ptr<Convolution> exact_;
};

}  // namespace

std::unique_ptr<Convolution> make_tf32_convolution(Context& context, std::unique_ptr<Convolution> exact) {
  require(context.on_host(), "make_tf32_convolution", "a GPU has TF32 of its own");
  return std::make_unique<Tf32Convolution>(context, std::move(exact));
}

}  // namespace gradlibra
