// SPDX-License-Identifier: MIT
// Modulated deformable convolution: samples times their masks as columns, then a product.
#include "kernels/convolution/deform_im2col.h"
#include "kernels/convolution/deform_modulation.h"
#include "runtime/autograd/ops/convolution.h"
#include "runtime/autograd/ops/convolution_parts.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

namespace {

// What the backward pass has from the forward pass. The columns, nine times as large as the map they come from, are
// kept for it or computed again.
struct Samples {
  Tensor offsets, mask, columns;
};

}  // namespace

Var modulated_deform_conv2d(Tape& tape, Var x, Var prediction, Var weight, Var bias, Activation activation) {
  const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3), O = weight.dim(0),
                taps = weight.dim(1) * weight.dim(2);
  const int kernel = static_cast<int>(weight.dim(1));
  require(prediction.dtype() == x.dtype(), "modulated_deform_conv2d", "x and prediction are stored as different types");
  require_shape("modulated_deform_conv2d", "prediction", prediction.shape(), {N, H, W, 3 * taps});
  Var y = tape.make({N, H, W, O},
                    x.requires_grad() || prediction.requires_grad() || weight.requires_grad() || bias.requires_grad(),
                    x.dtype());
  Context& context = tape.context();
  Convolution& library = context.convolution();
  // The columns times the weight matrix: a 1x1 convolution with taps * C input channels.
  const Shape columns_shape{N, H, W, taps, C}, rows_shape{N, H, W, taps * C}, matrix{O, 1, 1, taps * C};
  auto samples = shared(Samples());
  const auto sample = [=, &tape](Tensor& columns) {
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::deform_im2col<T>(device, x.view<T>(), samples->offsets.view(), kernel, columns.view<T>(),
                                samples->mask.view());
    });
  };

  if (tape.computes()) {
    samples->offsets = context.empty({N, H, W, 2 * taps});
    samples->mask = context.empty({N, H, W, taps});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::split_modulation<T>(device, prediction.view<T>(), samples->offsets.view(), samples->mask.view());
    });
    Tensor columns = context.empty(columns_shape, x.dtype()), scratch, scratch_bias;
    sample(columns);
    library.forward({.x = Map(columns).reshaped(rows_shape),
                     .weight = weight_like(tape, x, weight, scratch).reshaped(matrix),
                     .bias = bias ? weight_like(tape, x, bias, scratch_bias) : ConstMap(),
                     .activation = activation,
                     .y = y.node().value});
    if (tape.recording() && weight.requires_grad() && context.keeps_columns()) samples->columns = std::move(columns);
  }

  tape.on_backward(y, {x, prediction, weight, bias}, [=, &tape, &context, &library] {
    Tensor scratch, scratch_weight;
    auto grad_bias = tape.grad_if_wanted(weight.requires_grad() ? bias : Var());
    const ConstMap grad_rows = grad_before_activation(tape, y, activation, scratch, grad_bias);
    Tensor &offsets = samples->offsets, &mask = samples->mask, &columns = samples->columns;
    const bool sampled = !columns.empty();
    if (!sampled) columns = context.empty(columns_shape, x.dtype());
    const Map rows = Map(columns).reshaped(rows_shape);
    if (weight.requires_grad()) {
      if (!sampled) sample(columns);
      const auto target = tape.grad_of(weight);  // written as often as the bias's
      library.backward_weight(rows, grad_rows, {}, View<float>(target.grad.data(), matrix), grad_bias.grad,
                              target.mode);
    }
    if (!x.requires_grad() && !prediction.requires_grad()) return;
    library.backward_data(grad_rows, weight_like(tape, x, weight, scratch_weight).reshaped(matrix), {}, rows,
                          Accumulate::overwrite);
    const bool on_host = context.on_host();
    Tensor grad_mask = context.empty(mask.shape()), grad_offsets = context.empty(offsets.shape()), unwanted;
    Tensor sorted = context.empty({on_host ? 0 : kernels::deform_im2col_workspace(x.shape(), kernel)}, DType::i32);
    tape.run_map(x, [&]<class T>(auto& device) {
      // Made with that of the offsets, also where it is not wanted.
      if (!x.requires_grad()) unwanted = context.empty(x.shape(), x.dtype());
      const GradTarget<T> grad_x = x.requires_grad() ? tape.grad_of<T>(x) : GradTarget<T>{unwanted.template view<T>()};
      Tensor products =
          context.empty({on_host ? 0 : kernels::deform_im2col_products<T>(x.shape(), kernel)}, DType::f32);
      kernels::deform_im2col_backward<T>(
          device, x.view<T>(), offsets.view(), std::as_const(columns).view<T>(), kernel, grad_x, {grad_offsets.view()},
          {sorted.view<int32_t>(), products.view(), false}, {std::as_const(mask).view(), grad_mask.view()});
      if (!prediction.requires_grad()) return;
      kernels::split_modulation_backward<T>(device, prediction.view<T>(), grad_offsets.view(), grad_mask.view(),
                                            tape.grad_of<T>(prediction));
    });
  });
  return y;
}

}  // namespace gradlibra::ops
