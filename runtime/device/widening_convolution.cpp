// SPDX-License-Identifier: MIT
// bfloat16 convolutions by a library of float32: the inputs are widened, which is exact, and the result is rounded
// once.
#include "kernels/elementwise.h"
#include "runtime/device/context.h"

namespace gradlibra {

namespace {

class WideningConvolution final : public Convolution {
 public:
  WideningConvolution(Context& context, std::unique_ptr<Convolution> float_only)
      : context_(context), float_only_(std::move(float_only)) {}

  void forward(const Forward& call) override {
    if (call.y.dtype() == DType::f32) return float_only_->forward(call);
    const Tensor x = widened(call.x), weight = widened(call.weight);
    Tensor bias, residual, y = context_.empty(call.y.shape());
    Forward wide{.x = x, .weight = weight, .shape = call.shape, .activation = call.activation, .y = y};
    if (!call.bias.empty()) {
      bias = widened(call.bias);
      wide.bias = bias;
    }
    if (!call.residual.empty()) {
      residual = widened(call.residual);
      wide.residual = residual;
    }
    float_only_->weight_changed(weight.data());  // it lies where another one may have lain
    float_only_->forward(wide);
    round(y, call.y, Accumulate::overwrite);
  }

  void backward_data(ConstMap grad_y, ConstMap weight, const kernels::ConvShape& shape, Map grad_x,
                     Accumulate mode) override {
    if (grad_x.dtype() == DType::f32) return float_only_->backward_data(grad_y, weight, shape, grad_x, mode);
    const Tensor wide_grad_y = widened(grad_y), wide_weight = widened(weight);
    Tensor wide_grad_x = context_.empty(grad_x.shape());
    float_only_->weight_changed(wide_weight.data());
    float_only_->backward_data(wide_grad_y, wide_weight, shape, wide_grad_x, Accumulate::overwrite);
    round(wide_grad_x, grad_x, mode);
  }

  void backward_weight(ConstMap x, ConstMap grad_y, const kernels::ConvShape& shape, Map grad_weight,
                       View<float> grad_bias, Accumulate mode) override {
    if (x.dtype() == DType::f32) return float_only_->backward_weight(x, grad_y, shape, grad_weight, grad_bias, mode);
    const Tensor wide_x = widened(x), wide_grad_y = widened(grad_y);
    if (grad_weight.dtype() == DType::f32)
      return float_only_->backward_weight(wide_x, wide_grad_y, shape, grad_weight, grad_bias, mode);
    Tensor wide = context_.empty(grad_weight.shape());
    float_only_->backward_weight(wide_x, wide_grad_y, shape, wide, grad_bias, Accumulate::overwrite);
    round(wide, grad_weight, mode);
  }

  void weights_changed() override { float_only_->weights_changed(); }
  void weight_changed(const void* weight) override { float_only_->weight_changed(weight); }

 private:
  Tensor widened(ConstMap map) {
    Tensor wide = context_.empty(map.shape());
    context_.run([&](auto& device) { kernels::cast(device, map.view<bfloat16>(), wide.view()); });
    return wide;
  }
  void round(Tensor& wide, Map to, Accumulate mode) {
    context_.run([&](auto& device) { kernels::cast(device, wide.view(), to.view<bfloat16>(), mode); });
  }

  Context& context_;
  std::unique_ptr<Convolution> float_only_;
};

}  // namespace

std::unique_ptr<Convolution> make_widening_convolution(Context& context, std::unique_ptr<Convolution> float_only) {
  return std::make_unique<WideningConvolution>(context, std::move(float_only));
}

}  // namespace gradlibra
