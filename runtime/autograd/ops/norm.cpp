// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/norm.h"

#include <utility>

#include "kernels/elementwise.h"
#include "kernels/norms/group_norm.h"
#include "kernels/norms/sync_batch_norm.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

namespace {

// Mean and rstd of x, which also move the running statistics: of this rank's rows, or of those of all ranks.
void take_statistics(Tape& tape, Var x, const BatchNormBuffers& buffers, View<float> mean, View<float> rstd) {
  const int64_t C = x.dim(-1), rows = C > 0 ? x.shape().size() / C : 0;
  Context& context = tape.context();
  const bool alone = !tape.sum_over_ranks();
  const kernels::RunningStatistics running{buffers.momentum, buffers.running_mean->value.view(),
                                           buffers.running_var->value.view()};
  Tensor workspace = context.empty({kernels::batch_norm_workspace(rows, C)});
  // At momentum 1 the running statistics become the batch's own.
  Tensor own_mean, own_var;
  if (!alone) own_mean = context.zeros({C}), own_var = context.zeros({C});
  tape.run_map(x, [&]<class T>(auto& device) {
    kernels::batch_norm_statistics<T>(
        device, {.x = x.view<T>(),
                 .eps = buffers.eps,
                 .mean = mean,
                 .rstd = rstd,
                 .running = alone ? running : kernels::RunningStatistics{1, own_mean.view(), own_var.view()},
                 .workspace = workspace.view()});
  });
  if (alone) return;
  Tensor sums = context.empty({kernels::sync_norm_sums(C)}, DType::f64);
  tape.run([&](auto& device) {
    kernels::pack_moments(device, rows, std::as_const(own_mean).view(), std::as_const(own_var).view(),
                          sums.view<double>());
  });
  tape.sum_over_ranks()(sums.view<double>());
  tape.run([&](auto& device) {
    kernels::unpack_moments(device, std::as_const(sums).view<double>(), {buffers.eps, mean, rstd, running});
  });
}

// Back, over all ranks: this rank's sums are the gradients of weight and bias, and once they have crossed the ranks the
// averages that grad_x needs.
template <class T>
void sync_backward(Tape& tape, kernels::NormBackwardPass<T> pass) {
  const int64_t C = pass.weight.size(), rows = C > 0 ? pass.grad_y.size() / C : 0;
  Context& context = tape.context();
  const GradTarget<T> grad_x = std::exchange(pass.grad_x, {});
  const GradTarget<> grad_weight = std::exchange(pass.grad_weight, {}), grad_bias = std::exchange(pass.grad_bias, {});
  Tensor sum_g = context.empty({C}), sum_g_x_hat = context.empty({C});
  pass.grad_bias = {sum_g.view(), Accumulate::overwrite};
  pass.grad_weight = {sum_g_x_hat.view(), Accumulate::overwrite};
  Tensor sums = context.empty({kernels::sync_norm_sums(C)}, DType::f64);
  tape.run([&](auto& device) {
    kernels::batch_norm_backward<T>(device, pass);
    const View<const float> g = std::as_const(sum_g).view(), g_x_hat = std::as_const(sum_g_x_hat).view();
    if (grad_bias.wanted()) kernels::copy(device, g, grad_bias.grad, grad_bias.mode);
    if (grad_weight.wanted()) kernels::copy(device, g_x_hat, grad_weight.grad, grad_weight.mode);
    kernels::pack_gradients(device, rows, g, g_x_hat, sums.view<double>());
  });
  // All ranks call it, for all record the same ops.
  tape.sum_over_ranks()(sums.view<double>());
  if (!grad_x.wanted()) return;
  pass.grad_x = grad_x;
  tape.run([&](auto& device) {
    kernels::unpack_gradients(device, std::as_const(sums).view<double>(), pass.weight,
                              {sum_g.view(), sum_g_x_hat.view()});
    kernels::batch_norm_input_gradient<T>(device, pass, std::as_const(sum_g).view(), std::as_const(sum_g_x_hat).view());
  });
}

}  // namespace

Var batch_norm(Tape& tape, Var x, Var weight, Var bias, const BatchNormBuffers& buffers, Activation activation) {
  const int64_t C = x.dim(-1);
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad() || bias.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({C}));
  auto rstd = shared(tape.buffer({C}));
  const int64_t rows = C > 0 ? x.shape().size() / C : 0;
  if (tape.computes()) take_statistics(tape, x, buffers, mean->view(), rstd->view());
  tape.run_map(x, [&]<class T>(auto& device) {
    kernels::batch_norm<T>(device, {.x = x.view<T>(),
                                    .mean = mean->view(),
                                    .rstd = rstd->view(),
                                    .weight = weight.view(),
                                    .bias = bias.view(),
                                    .activation = activation,
                                    .y = y.out<T>()});
  });
  tape.on_backward(y, {x, weight, bias}, [=, &tape] {
    Tensor workspace = tape.context().empty({kernels::batch_norm_workspace(rows, C)});
    const auto backward = [&]<class T>(auto& device) {
      const kernels::NormBackwardPass<T> pass{.x = x.view<T>(),
                                              .y = y.view<T>(),
                                              .grad_y = Tape::grad<T>(y),
                                              .mean = mean->view(),
                                              .rstd = rstd->view(),
                                              .weight = weight.view(),
                                              .activation = activation,
                                              .grad_x = tape.grad_if_wanted<T>(x),
                                              .grad_weight = tape.grad_if_wanted(weight),
                                              .grad_bias = tape.grad_if_wanted(bias),
                                              .workspace = workspace.view()};
      if (tape.sum_over_ranks())
        sync_backward<T>(tape, pass);
      else
        kernels::batch_norm_backward<T>(device, pass);
    };
    tape.run_map(x, backward);
  });
  return y;
}

Var group_norm(Tape& tape, Var x, Var weight, Var bias, int groups, float eps, Activation activation) {
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad() || bias.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({x.dim(0), groups}));
  auto rstd = shared(tape.buffer({x.dim(0), groups}));
  {
    Tensor workspace = tape.buffer({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::group_norm<T>(device, {.x = x.view<T>(),
                                      .weight = weight.view(),
                                      .bias = bias.view(),
                                      .groups = groups,
                                      .eps = eps,
                                      .activation = activation,
                                      .y = y.out<T>(),
                                      .mean = mean->view(),
                                      .rstd = rstd->view(),
                                      .workspace = workspace.view()});
    });
  }
  tape.on_backward(y, {x, weight, bias}, [=, &tape] {
    Tensor workspace = tape.context().empty({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::group_norm_backward<T>(device,
                                      {.x = x.view<T>(),
                                       .y = y.view<T>(),
                                       .grad_y = Tape::grad<T>(y),
                                       .mean = mean->view(),
                                       .rstd = rstd->view(),
                                       .weight = weight.view(),
                                       .activation = activation,
                                       .grad_x = tape.grad_if_wanted<T>(x),
                                       .grad_weight = tape.grad_if_wanted(weight),
                                       .grad_bias = tape.grad_if_wanted(bias),
                                       .workspace = workspace.view()},
                                      groups);
    });
  });
  return y;
}

}  // namespace gradlibra::ops
