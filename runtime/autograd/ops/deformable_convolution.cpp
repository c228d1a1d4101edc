// SPDX-License-Identifier: MIT
// Deformable convolutions, with a mask and without: samples as columns, then a product.
#include <functional>

#include "kernels/convolution/deform_im2col.h"
#include "kernels/convolution/deform_modulation.h"
#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/convolution_parts.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

namespace {

// The samples of x as columns (N, H, W, taps, C) and their product with the weight matrix: a 1x1 convolution with
// taps * C input channels. The columns, nine times as large as the map they come from, are kept for the gradient of
// the weight or made again.
class Columns {
 public:
  Columns(Tape& tape, Var x, Var weight, std::function<void(Tensor& columns)> sample)
      : tape_(tape),
        x_(x),
        weight_(weight),
        sample_(std::move(sample)),
        shape_{x.dim(0), x.dim(1), x.dim(2), weight.dim(1) * weight.dim(2), x.dim(3)},
        rows_{x.dim(0), x.dim(1), x.dim(2), shape_[3] * shape_[4]},
        matrix_{weight.dim(0), 1, 1, shape_[3] * shape_[4]} {}

  void forward(Var bias, Activation activation, Var y) {
    Context& context = tape_.context();
    Tensor columns = context.empty(shape_, x_.dtype()), scratch, scratch_bias;
    sample_(columns);
    context.convolution().forward({.x = Map(columns).reshaped(rows_),
                                   .weight = weight_like(tape_, x_, weight_, scratch).reshaped(matrix_),
                                   .bias = bias ? weight_like(tape_, x_, bias, scratch_bias) : ConstMap(),
                                   .activation = activation,
                                   .y = y.node().value});
    if (tape_.recording() && weight_.requires_grad() && context.keeps_columns()) kept_ = std::move(columns);
  }

  // The gradients of weight and bias; then, if it is wanted, that of the columns, in their memory, else nothing.
  [[nodiscard]] Tensor backward(Var bias, Activation activation, Var y, bool wanted) {
    Context& context = tape_.context();
    Tensor scratch, scratch_weight;
    auto grad_bias = tape_.grad_if_wanted(weight_.requires_grad() ? bias : Var());
    const ConstMap grad_y = grad_before_activation(tape_, y, activation, scratch, grad_bias);
    const bool sampled = !kept_.empty();
    Tensor columns = sampled ? std::move(kept_) : context.empty(shape_, x_.dtype());
    const Map rows = Map(columns).reshaped(rows_);
    if (weight_.requires_grad()) {
      if (!sampled) sample_(columns);
      const auto target = tape_.grad_of(weight_);  // written as often as the bias's
      context.convolution().backward_weight(rows, grad_y, {}, View<float>(target.grad.data(), matrix_), grad_bias.grad,
                                            target.mode);
    }
    if (!wanted) return {};
    context.convolution().backward_data(grad_y, weight_like(tape_, x_, weight_, scratch_weight).reshaped(matrix_), {},
                                        rows, Accumulate::overwrite);
    return columns;
  }

 private:
  Tape& tape_;
  Var x_, weight_;
  std::function<void(Tensor&)> sample_;
  Shape shape_, rows_, matrix_;
  Tensor kept_;
};

// deform_im2col_backward() in memory of its own, but for `samples`, which are sorted there unless they are already. All
// gradients are made; those of x or of offsets that are not wanted have no target.
template <class T, class Device>
void columns_backward(Device& device, Context& context, Var x, View<const float> offsets, const Tensor& grad_columns,
                      int kernel, GradTarget<T> grad_x, GradTarget<> grad_offsets, Tensor& samples,
                      const kernels::DeformMask& mask) {
  Tensor unwanted_x, unwanted_offsets;
  if (grad_x.grad.data() == nullptr) {
    unwanted_x = context.empty(x.shape(), x.dtype());
    grad_x = {unwanted_x.view<T>()};
  }
  if (grad_offsets.grad.data() == nullptr) {
    unwanted_offsets = context.empty(offsets.shape());
    grad_offsets = {unwanted_offsets.view()};
  }
  const bool sorted = !samples.empty();
  if (!sorted)
    samples =
        context.empty({kernels::for_device(device, kernels::deform_im2col_workspace(x.shape(), kernel))}, DType::i32);
  Tensor products = context.empty({kernels::for_device(device, kernels::deform_im2col_products<T>(x.shape(), kernel))});
  kernels::deform_im2col_backward<T>(device, x.view<T>(), offsets, grad_columns.view<T>(), kernel, grad_x, grad_offsets,
                                     {samples.view<int32_t>(), products.view(), sorted}, mask);
}

}  // namespace

Var deform_conv2d(Tape& tape, Var x, Var offsets, Var weight, Activation activation, const SamplePoints& points) {
  const int kernel = static_cast<int>(weight.dim(1));
  Var y = tape.make({x.dim(0), x.dim(1), x.dim(2), weight.dim(0)},
                    x.requires_grad() || offsets.requires_grad() || weight.requires_grad(), x.dtype());
  const auto columns = shared(Columns(tape, x, weight, [=, &tape](Tensor& to) {
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::deform_im2col<T>(device, x.view<T>(), offsets.view(), kernel, to.view<T>());
    });
  }));
  if (tape.computes()) columns->forward(Var(), activation, y);
  tape.on_backward(y, {x, offsets, weight}, [=, &tape] {
    const bool wanted = x.requires_grad() || offsets.requires_grad();
    const Tensor grad_columns = columns->backward(Var(), activation, y, wanted);
    if (!wanted) return;
    Tensor own, &samples = points != nullptr ? *points : own;
    tape.run_map(x, [&]<class T>(auto& device) {
      const GradTarget<> grad_offsets = tape.grad_if_wanted(offsets);
      const GradTarget<T> grad_x = tape.grad_if_wanted<T>(x);
      columns_backward<T>(device, tape.context(), x, offsets.view(), grad_columns, kernel, grad_x, grad_offsets,
                          samples, {});
    });
  });
  return y;
}

Var modulated_deform_conv2d(Tape& tape, Var x, Var prediction, Var weight, Var bias, Activation activation) {
  const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), taps = weight.dim(1) * weight.dim(2);
  const int kernel = static_cast<int>(weight.dim(1));
  require(prediction.dtype() == x.dtype(), "modulated_deform_conv2d", "x and prediction are stored as different types");
  require_shape("modulated_deform_conv2d", "prediction", prediction.shape(), {N, H, W, 3 * taps});
  Var y = tape.make({N, H, W, weight.dim(0)},
                    x.requires_grad() || prediction.requires_grad() || weight.requires_grad() || bias.requires_grad(),
                    x.dtype());
  struct Modulation {
    Tensor offsets, mask;
  };
  const auto parts = shared(Modulation());
  const auto columns = shared(Columns(tape, x, weight, [=, &tape](Tensor& to) {
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::deform_im2col<T>(device, x.view<T>(), parts->offsets.view(), kernel, to.view<T>(), parts->mask.view());
    });
  }));
  if (tape.computes()) {
    parts->offsets = tape.context().empty({N, H, W, 2 * taps});
    parts->mask = tape.context().empty({N, H, W, taps});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::split_modulation<T>(device, prediction.view<T>(), parts->offsets.view(), parts->mask.view());
    });
    columns->forward(bias, activation, y);
  }
  tape.on_backward(y, {x, prediction, weight, bias}, [=, &tape] {
    const bool wanted = x.requires_grad() || prediction.requires_grad();
    const Tensor grad_columns = columns->backward(bias, activation, y, wanted);
    if (!wanted) return;
    Context& context = tape.context();
    Tensor grad_offsets = context.empty(parts->offsets.shape()), grad_mask = context.empty(parts->mask.shape()),
           samples;
    tape.run_map(x, [&]<class T>(auto& device) {
      columns_backward<T>(device, context, x, parts->offsets.view(), grad_columns, kernel, tape.grad_if_wanted<T>(x),
                          {grad_offsets.view()}, samples, {std::as_const(parts->mask).view(), grad_mask.view()});
      if (!prediction.requires_grad()) return;
      kernels::split_modulation_backward<T>(device, prediction.view<T>(), grad_offsets.view(), grad_mask.view(),
                                            tape.grad_of<T>(prediction));
    });
  });
  return y;
}

}  // namespace gradlibra::ops
