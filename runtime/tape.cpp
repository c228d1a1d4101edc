// SPDX-License-Identifier: MIT
#include "runtime/tape.h"

#include "kernels/elementwise.h"

namespace gradlibra {

Var Tape::constant(Tensor value) {
  nodes_.push_back(std::make_unique<Node>());
  nodes_.back()->value = std::move(value);
  return Var(nodes_.back().get());
}

Var Tape::make(Shape shape, bool requires_grad, DType dtype) {
  nodes_.push_back(std::make_unique<Node>());
  Node& node = *nodes_.back();
  node.value = computes() ? context_.empty(shape, dtype) : Tensor::borrow(nullptr, shape, dtype);
  node.requires_grad = requires_grad && recording();
  return Var(&node);
}

void Tape::on_backward(Var output, std::function<void()> step) {
  if (output.requires_grad()) steps_.push_back({output, std::move(step)});
}

Accumulate Tape::claim_grad(Node& node) {
  if (node.grad.empty()) node.grad = context_.empty(node.value.shape(), node.value.dtype());
  const Accumulate mode = node.grad_written ? Accumulate::add : Accumulate::overwrite;
  node.grad_written = true;
  return mode;
}

void Tape::pass_grad(Var output, Var input) {
  Node& node = input.node();
  if (node.grad.empty() && mode_ == Mode::training) {
    node.grad = std::move(output.node().grad);
    node.grad_written = true;
    return;
  }
  run_map(input, [&]<class T>(auto& device) {
    const auto target = grad_of<T>(input);
    kernels::copy<T>(device, grad<T>(output), target.grad, target.mode);
  });
}

void Tape::backward() {
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    Node& output = step->output.node();
    if (output.grad_written) step->backward();
    step->backward = nullptr;  // what the closure owns goes back to the pool
    if (mode_ == Mode::training) {
      // Every reader of this value comes later on the tape and has run its backward step.
      output.value = Tensor();
      output.grad = Tensor();
    }
  }
  steps_.clear();
}

void Tape::name(std::string label, Var value) {
  if (mode_ == Mode::inspection) named_.emplace_back(std::move(label), value);
}

void Tape::add_cost(const std::string& layer, int64_t multiply_adds) {
  if (mode_ == Mode::shapes) costs_[layer] += multiply_adds;
}

}  // namespace gradlibra
