// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/convolution.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "kernels/norms/batch_norm_fold.h"
#include "kernels/reduce.h"
#include "runtime/autograd/ops/convolution_parts.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

ConstMap grad_before_activation(Tape& tape, Var y, Activation activation, Tensor& scratch, GradTarget<>& bias) {
  Tensor* grad = &y.node().grad;
  if (activation == Activation::none) return *grad;
  tape.await_readers(grad->data());
  if (tape.mode() == Tape::Mode::inspection) {
    scratch = tape.context().empty(y.shape(), y.dtype());
    grad = &scratch;
  }
  if (bias.grad.data() == nullptr) {
    tape.run_map(y, [&]<class T>(auto& device) {
      kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), grad->view<T>(), Accumulate::overwrite);
    });
    return *grad;
  }
  const int64_t C = y.dim(-1);
  Tensor workspace = tape.context().empty({kernels::sum_rows_workspace(y.shape().size() / std::max<int64_t>(C, 1), C)});
  tape.run_map(y, [&]<class T>(auto& device) {
    kernels::relu_backward_sum_rows<T>(device, y.view<T>(), Tape::grad<T>(y), grad->view<T>(), bias.grad, bias.mode,
                                       workspace.view());
  });
  bias.grad = {};
  return *grad;
}

ConstMap weight_like(Tape& tape, Var x, Var weight, Tensor& scratch) {
  if (x.dtype() == DType::f32) return weight.view();
  const Tensor& rounded = weight.node().rounded;
  if (!rounded.empty()) return rounded;
  scratch = tape.context().empty(weight.shape(), x.dtype());
  tape.run([&](auto& device) { kernels::cast(device, weight.view(), scratch.view<bfloat16>()); });
  tape.context().convolution().weight_changed(scratch.data());
  return scratch;
}

namespace {

Shape conv_output(const char* op, Var x, Var weight, const kernels::ConvShape& shape) {
  require(x.shape().rank() == 4 && weight.shape().rank() == 4, op, "x and weight have four dimensions");
  return {x.dim(0), kernels::conv_size(x.dim(1), weight.dim(1), shape),
          kernels::conv_size(x.dim(2), weight.dim(2), shape), weight.dim(0)};
}

kernels::StoredNorm stored_norm(Var gamma, Var beta, const BatchNormBuffers& buffers) {
  return {.gamma = gamma.view(),
          .beta = beta.view(),
          .mean = std::as_const(buffers.running_mean->value).view(),
          .var = std::as_const(buffers.running_var->value).view(),
          .eps = buffers.eps};
}

}  // namespace

Var conv2d(Tape& tape, Var x, Var weight, Var bias, const kernels::ConvShape& shape, Activation activation) {
  Var y = tape.make(conv_output("conv2d", x, weight, shape),
                    x.requires_grad() || weight.requires_grad() || bias.requires_grad(), x.dtype());
  Convolution& library = tape.context().convolution();
  if (tape.computes()) {
    Tensor scratch, scratch_bias;
    library.forward({.x = x.node().value,
                     .weight = weight_like(tape, x, weight, scratch),
                     .bias = bias ? weight_like(tape, x, bias, scratch_bias) : ConstMap(),
                     .shape = shape,
                     .activation = activation,
                     .y = y.node().value});
  }
  tape.on_backward(y, {x, weight, bias}, [=, &tape, &library] {
    Tensor scratch, scratch_weight;
    auto grad_bias = tape.grad_if_wanted(weight.requires_grad() ? bias : Var());
    const ConstMap grad_y = grad_before_activation(tape, y, activation, scratch, grad_bias);
    if (weight.requires_grad()) {
      const auto grad_weight = tape.grad_of(weight);  // written as often as the bias's
      library.backward_weight(x.node().value, grad_y, shape, grad_weight.grad, grad_bias.grad, grad_weight.mode);
    }
    if (x.requires_grad()) {
      const auto grad_x = tape.grad_map_of(x);
      library.backward_data(grad_y, weight_like(tape, x, weight, scratch_weight), shape, grad_x.grad, grad_x.mode);
    }
  });
  return y;
}

FoldedNorm fold_batch_norm(Tape& tape, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers, DType maps) {
  FoldedNorm folded{shared(tape.buffer(weight.shape(), maps)), shared(tape.buffer(gamma.shape(), maps))};
  if (!tape.computes()) return folded;
  const auto fold = [&]<class T>(T) {
    tape.run([&](auto& device) {
      kernels::fold_batch_norm<T>(device, weight.view(), stored_norm(gamma, beta, buffers),
                                  folded.weight->template view<T>(), folded.bias->template view<T>());
    });
  };
  maps == DType::bf16 ? fold(bfloat16{}) : fold(0.0f);
  tape.context().convolution().weight_changed(folded.weight->data());
  return folded;
}

Var conv2d_batch_norm(Tape& tape, ConvBatchNorm layer) {
  const Var x = layer.x, weight = layer.weight, gamma = layer.gamma, beta = layer.beta, residual = layer.residual;
  Var y = tape.make(conv_output("conv2d_batch_norm", x, weight, layer.shape),
                    x.requires_grad() || weight.requires_grad() || gamma.requires_grad() || residual.requires_grad(),
                    x.dtype());
  Convolution& library = tape.context().convolution();
  FoldedNorm folded = std::move(layer.folded);
  if (folded.weight == nullptr) folded = fold_batch_norm(tape, weight, gamma, beta, layer.buffers, x.dtype());
  const std::shared_ptr<Tensor> folded_weight = folded.weight;
  if (tape.computes()) {
    library.forward({.x = x.node().value,
                     .weight = *folded_weight,
                     .bias = *folded.bias,
                     .residual = residual ? ConstMap(residual.node().value) : ConstMap(),
                     .shape = layer.shape,
                     .activation = layer.activation,
                     .y = y.node().value});
  }
  folded = {};  // the bias is not needed any more
  tape.on_backward(y, {x, weight, gamma, beta, residual}, [=, &tape, &library] {
    Tensor scratch, grad_folded_bias;
    GradTarget<> grad_bias;
    const bool trains = weight.requires_grad() || gamma.requires_grad();
    if (trains) {
      grad_folded_bias = tape.context().empty(gamma.shape());
      grad_bias.grad = grad_folded_bias.view();
    }
    const ConstMap grad_y = grad_before_activation(tape, y, layer.activation, scratch, grad_bias);
    const auto train = [&] {
      Tensor grad_folded = tape.context().empty(weight.shape(), x.dtype());
      library.backward_weight(x.node().value, grad_y, layer.shape, grad_folded, grad_bias.grad, Accumulate::overwrite);
      const auto grad_weight = tape.grad_if_wanted(weight), grad_gamma = tape.grad_if_wanted(gamma),
                 grad_beta = tape.grad_if_wanted(beta);
      tape.run_map(x, [&]<class T>(auto& device) {
        kernels::fold_batch_norm_backward<T>(device, weight.view(), stored_norm(gamma, beta, layer.buffers),
                                             {.weight = grad_folded.view<T>(), .bias = grad_folded_bias.view()},
                                             {.weight = grad_weight, .gamma = grad_gamma, .beta = grad_beta});
      });
    };
    if (trains) {
      tape.aside({x.node().value.data(), grad_y.data(), grad_folded_bias.data()}, train);
      tape.keep_for_asides(std::move(grad_folded_bias));
    }
    if (x.requires_grad()) {
      const auto grad_x = tape.grad_map_of(x);
      library.backward_data(grad_y, *folded_weight, layer.shape, grad_x.grad, grad_x.mode);
    }
    // Last: the gradient's own memory may be handed on.
    if (!residual.requires_grad()) return;
    if (scratch.empty()) return tape.pass_grad(y, residual);
    tape.run_map(y, [&]<class T>(auto& device) {
      const auto target = tape.grad_of<T>(residual);
      kernels::copy<T>(device, scratch.view<T>(), target.grad, target.mode);
    });
  });
  return y;
}

}  // namespace gradlibra::ops
