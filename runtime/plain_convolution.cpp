// SPDX-License-Identifier: MIT
// Convolution by the project's own kernels, on whatever executor the context has.
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "runtime/context.h"

namespace gradlibra {

namespace {

class PlainConvolution final : public Convolution {
 public:
  explicit PlainConvolution(Context& context) : context_(context) {}

  void forward(View<const float> x, View<const float> weight, View<const float> bias, const kernels::ConvShape& shape,
               kernels::Activation activation, View<float> y) override {
    context_.run([&](auto& device) {
      kernels::conv2d(device, x, weight, bias, shape, y);
      if (activation == kernels::Activation::relu) kernels::relu(device, y, y);
    });
  }

  void backward_data(View<const float> grad_y, View<const float> weight, const kernels::ConvShape& shape,
                     View<float> grad_x, Accumulate mode) override {
    context_.run([&](auto& device) { kernels::conv2d_backward_data(device, grad_y, weight, shape, grad_x, mode); });
  }

  void backward_weight(View<const float> x, View<const float> grad_y, const kernels::ConvShape& shape,
                       View<float> grad_weight, View<float> grad_bias, Accumulate mode) override {
    context_.run([&](auto& device) {
      kernels::conv2d_backward_weight(device, x, grad_y, shape, grad_weight, mode);
      if (grad_bias.data() == nullptr) return;
      const int64_t channels = grad_bias.size();
      Tensor workspace =
          context_.empty({kernels::sum_rows_workspace(channels ? grad_y.size() / channels : 0, channels)});
      kernels::sum_rows(device, grad_y, grad_bias, mode, workspace.view());
    });
  }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<Convolution> make_plain_convolution(Context& context) {
  return std::make_unique<PlainConvolution>(context);
}

#ifndef GRADLIBRA_HAVE_ONEDNN
std::unique_ptr<Convolution> make_onednn_convolution(Context&) { return nullptr; }
#endif

}  // namespace gradlibra
