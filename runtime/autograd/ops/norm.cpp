// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/norm.h"

#include "kernels/norms/group_norm.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

Var batch_norm(Tape& tape, Var x, Var weight, Var bias, const BatchNormBuffers& buffers, Activation activation) {
  const int64_t C = x.dim(-1);
  Context& context = tape.context();
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({C}));
  auto rstd = shared(tape.buffer({C}));
  const int64_t rows = C > 0 ? x.shape().size() / C : 0;
  tape.run_map(x, [&]<class T>(auto& device) {
    Tensor workspace = context.empty({kernels::batch_norm_workspace(rows, C)});
    kernels::batch_norm_statistics<T>(device, x.view<T>(), buffers.eps, buffers.momentum, mean->view(), rstd->view(),
                                      buffers.running_mean->value.view(), buffers.running_var->value.view(),
                                      workspace.view());
    kernels::batch_norm<T>(device, x.view<T>(), mean->view(), rstd->view(), weight.view(), bias.view(), activation,
                           y.out<T>());
  });
  tape.on_backward(y, {x, weight, bias}, [=, &tape] {
    const auto grad_weight = tape.grad_if_wanted(weight),
               grad_bias = tape.grad_if_wanted(weight.requires_grad() ? bias : Var());
    Tensor workspace = tape.context().empty({kernels::batch_norm_workspace(rows, C)});
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto grad_x = tape.grad_if_wanted<T>(x);
      kernels::batch_norm_backward<T>(device, x.view<T>(), y.view<T>(), Tape::grad<T>(y), mean->view(), rstd->view(),
                                      weight.view(), activation, grad_x.grad, grad_x.mode, grad_weight.grad,
                                      grad_bias.grad, grad_weight.mode, workspace.view());
    });
  });
  return y;
}

Var group_norm(Tape& tape, Var x, Var weight, Var bias, int groups, float eps, Activation activation) {
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({x.dim(0), groups}));
  auto rstd = shared(tape.buffer({x.dim(0), groups}));
  {
    Tensor workspace = tape.buffer({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::group_norm<T>(device, x.view<T>(), weight.view(), bias.view(), groups, eps, activation, y.out<T>(),
                             mean->view(), rstd->view(), workspace.view());
    });
  }
  tape.on_backward(y, {x, weight, bias}, [=, &tape] {
    // The kernel computes all three gradients; what a constant input does not want goes into scratch memory.
    Tensor scratch_x, scratch_weight, scratch_bias;
    const auto target = [&]<class T>(Var v, Tensor& scratch) -> Tape::GradTarget<T> {
      if (v.requires_grad()) return tape.grad_of<T>(v);
      scratch = tape.context().empty(v.shape(), v.dtype());
      return {scratch.view<T>(), Accumulate::overwrite};
    };
    const auto grad_weight = target.operator()<float>(weight, scratch_weight),
               grad_bias = target.operator()<float>(bias, scratch_bias);
    Tensor workspace = tape.context().empty({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto grad_x = target.template operator()<T>(x, scratch_x);
      kernels::group_norm_backward<T>(device, x.view<T>(), y.view<T>(), Tape::grad<T>(y), weight.view(), mean->view(),
                                      rstd->view(), groups, activation, grad_x.grad, grad_x.mode, grad_weight.grad,
                                      grad_bias.grad, grad_weight.mode, workspace.view());
    });
  });
  return y;
}

}  // namespace gradlibra::ops
