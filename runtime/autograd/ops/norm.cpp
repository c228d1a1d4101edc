// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/norm.h"

#include "kernels/norms/group_norm.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

Var batch_norm(Tape& tape, Var x, Var weight, Var bias, const BatchNormBuffers& buffers, Activation activation) {
  const int64_t C = x.dim(-1);
  Context& context = tape.context();
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad() || bias.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({C}));
  auto rstd = shared(tape.buffer({C}));
  const int64_t rows = C > 0 ? x.shape().size() / C : 0;
  tape.run_map(x, [&]<class T>(auto& device) {
    Tensor workspace = context.empty({kernels::batch_norm_workspace(rows, C)});
    kernels::batch_norm_statistics<T>(device, {.x = x.view<T>(),
                                               .eps = buffers.eps,
                                               .mean = mean->view(),
                                               .rstd = rstd->view(),
                                               .running = {.momentum = buffers.momentum,
                                                           .mean = buffers.running_mean->value.view(),
                                                           .var = buffers.running_var->value.view()},
                                               .workspace = workspace.view()});
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
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::batch_norm_backward<T>(device, {.x = x.view<T>(),
                                               .y = y.view<T>(),
                                               .grad_y = Tape::grad<T>(y),
                                               .mean = mean->view(),
                                               .rstd = rstd->view(),
                                               .weight = weight.view(),
                                               .activation = activation,
                                               .grad_x = tape.grad_if_wanted<T>(x),
                                               .grad_weight = tape.grad_if_wanted(weight),
                                               .grad_bias = tape.grad_if_wanted(bias),
                                               .workspace = workspace.view()});
    });
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
