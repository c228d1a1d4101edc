// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/elementwise.h"

#include "kernels/elementwise.h"

namespace gradlibra::ops {

Var relu(Tape& tape, Var x) {
  Var y = tape.make(x.shape(), x.requires_grad(), x.dtype());
  tape.run_map(x, [&]<class T>(auto& device) { kernels::relu<T>(device, x.view<T>(), y.out<T>()); });
  tape.on_backward(y, {x}, [=, &tape] {
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto target = tape.grad_of<T>(x);
      kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), target.grad, target.mode);
    });
  });
  return y;
}

Var add_relu(Tape& tape, Var a, Var b) {
  Var y = tape.make(a.shape(), a.requires_grad() || b.requires_grad(), a.dtype());
  tape.run_map(a, [&]<class T>(auto& device) { kernels::add_relu<T>(device, a.view<T>(), b.view<T>(), y.out<T>()); });
  tape.on_backward(y, {a, b}, [=, &tape] {
    for (const Var& input : {a, b}) {
      if (!input.requires_grad()) continue;
      tape.run_map(y, [&]<class T>(auto& device) {
        const auto target = tape.grad_of<T>(input);
        kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), target.grad, target.mode);
      });
    }
  });
  return y;
}

Var add(Tape& tape, Var a, Var b) {
  Var y = tape.make(a.shape(), a.requires_grad() || b.requires_grad(), a.dtype());
  tape.run_map(a, [&]<class T>(auto& device) { kernels::add<T>(device, a.view<T>(), b.view<T>(), y.out<T>()); });
  tape.on_backward(y, {a, b}, [=, &tape] {
    if (a.requires_grad() && b.requires_grad())
      tape.run_map(y, [&]<class T>(auto& device) {
        const auto target = tape.grad_of<T>(a);
        kernels::copy<T>(device, Tape::grad<T>(y), target.grad, target.mode);
      });
    // Last: the gradient's own memory may be handed on.
    tape.pass_grad(y, b.requires_grad() ? b : a);
  });
  return y;
}

Var scaled_activation(Tape& tape, Var x, Var scale, kernels::ScaledActivation f) {
  Var y = tape.make(x.shape(), x.requires_grad() || scale.requires_grad());
  tape.run([&](auto& device) { kernels::scaled_activation(device, x.view(), scale.view(), f, y.out()); });
  tape.on_backward(y, {x, scale}, [=, &tape] {
    const auto grad_x = tape.grad_if_wanted(x), grad_scale = tape.grad_if_wanted(scale);
    Tensor workspace = tape.context().empty({kernels::scaled_activation_workspace(x.shape().size())}, DType::f64);
    tape.run([&](auto& device) {
      kernels::scaled_activation_backward(device, x.view(), scale.view(), f, y.view(), Tape::grad(y), grad_x,
                                          grad_scale, workspace.view<double>());
    });
  });
  return y;
}

Var to_float(Tape& tape, Var x) {
  if (x.dtype() == DType::f32) return x;
  Var y = tape.make(x.shape(), x.requires_grad());
  tape.run([&](auto& device) { kernels::cast(device, x.view<bfloat16>(), y.out()); });
  tape.on_backward(y, {x}, [=, &tape] {
    const auto target = tape.grad_of<bfloat16>(x);
    tape.run([&](auto& device) { kernels::cast(device, Tape::grad(y), target.grad, target.mode); });
  });
  return y;
}

}  // namespace gradlibra::ops
