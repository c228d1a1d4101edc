// SPDX-License-Identifier: MIT
// Convolution by the project's own kernels, on whatever executor the context has.
#include "kernels/convolution/bias_activation.h"
#include "kernels/reduce.h"
#include "runtime/device/context.h"

namespace gradlibra {

namespace {

class PlainConvolution final : public Convolution {
 public:
  explicit PlainConvolution(Context& context) : context_(context) {}

  void forward(const Forward& call) override {
    const View<float> y = call.y.view();
    context_.run([&](auto& device) {
      kernels::conv2d(device, call.x.view(), call.weight.view(), call.bias_view<float>(), call.shape, y);
      if (call.residual.empty() && call.activation == kernels::Activation::none) return;
      kernels::bias_activation<float>(device, y, {}, call.residual_view<float>(), call.activation, y);
    });
  }

  void backward_data(ConstMap grad_y, ConstMap weight, const kernels::ConvShape& shape, Map grad_x,
                     Accumulate mode) override {
    context_.run([&](auto& device) {
      kernels::conv2d_backward_data(device, grad_y.view(), weight.view(), shape, grad_x.view(), mode);
    });
  }

  void backward_weight(ConstMap x, ConstMap grad_y, const kernels::ConvShape& shape, Map grad_weight,
                       View<float> grad_bias, Accumulate mode) override {
    context_.run([&](auto& device) {
      kernels::conv2d_backward_weight(device, x.view(), grad_y.view(), shape, grad_weight.view(), mode);
      if (grad_bias.data() == nullptr) return;
      const int64_t channels = grad_bias.size();
      Tensor workspace =
          context_.empty({kernels::sum_rows_workspace(channels ? grad_y.size() / channels : 0, channels)});
      kernels::sum_rows(device, grad_y.view(), grad_bias, mode, workspace.view());
    });
  }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<Convolution> make_plain_convolution(Context& context) {
  return make_widening_convolution(context, std::make_unique<PlainConvolution>(context));
}

#ifndef GRADLIBRA_HAVE_ONEDNN
std::unique_ptr<Convolution> make_onednn_convolution(Context&) { return nullptr; }
#endif
#ifndef GRADLIBRA_HAVE_CUDNN
std::unique_ptr<Convolution> make_cudnn_convolution(Context&, const CudnnOptions&) { return nullptr; }
#endif

}  // namespace gradlibra
