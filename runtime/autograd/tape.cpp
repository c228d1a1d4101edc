// SPDX-License-Identifier: MIT
#include "runtime/autograd/tape.h"

#include <stdexcept>

#include "kernels/elementwise.h"

namespace gradlibra {

Var Tape::constant(Tensor value) {
  nodes_.push_back(std::make_unique<Node>());
  nodes_.back()->value = std::move(value);
  nodes_.back()->on_tape = true;
  return Var(nodes_.back().get());
}

Var Tape::make(Shape shape, bool requires_grad, DType dtype) {
  nodes_.push_back(std::make_unique<Node>());
  Node& node = *nodes_.back();
  node.value = computes() ? context_.empty(shape, dtype) : Tensor::borrow(nullptr, shape, dtype);
  node.made_in = current_;
  node.on_tape = true;
  node.requires_grad = requires_grad && recording();
  return Var(&node);
}

void Tape::on_backward(Var output, const std::vector<Var>& inputs, std::function<void()> step) {
  if (!output.requires_grad()) return;
  std::vector<Node*> leaves;
  if (grad_ready_)
    for (const Var& input : inputs) {
      if (!input.requires_grad() || input.node().on_tape) continue;
      leaves.push_back(&input.node());
      ++uses_[&input.node()];
    }
  steps_.push_back({output, std::move(leaves), current_, std::move(step)});
}

void Tape::on_grad_ready(std::function<void(Node&)> ready) {
  if (!steps_.empty()) throw std::logic_error("Tape::on_grad_ready: steps have been recorded already");
  grad_ready_ = std::move(ready);
}

void Tape::finish_input(Node* leaf) {
  if (--uses_.at(leaf) > 0) return;
  ready_.push_back(leaf);
  if (current_.fork == 0 && !aside_open_) report_ready();
}

void Tape::report_ready() {
  for (Node* leaf : std::exchange(ready_, {})) grad_ready_(*leaf);
}

void Tape::move_to(TapeBranch to) {
  if (to.fork != current_.fork) {
    close_asides();
    if (current_.fork != 0) context_.join();
    current_ = {};
    grad_from_.clear();
    report_ready();
    if (to.fork != 0) context_.fork(fork_sizes_[static_cast<size_t>(to.fork - 1)]);
  }
  if (to.fork != 0 && to != current_) context_.use_branch(to.branch);
  current_ = to;
}

void Tape::in_branches(int count, const std::function<void(int)>& body) {
  require(current_ == TapeBranch{}, "Tape::in_branches", "branches do not nest");
  const bool parallel = computes() && context_.has_branches() && count > 1;
  if (parallel) fork_sizes_.push_back(count);
  const int fork = static_cast<int>(fork_sizes_.size());
  try {
    for (int i = 0; i < count; ++i) {
      if (parallel) move_to({fork, i});
      body(i);
    }
  } catch (...) {
    leave_fork();
    throw;
  }
  move_to({});
}

void Tape::aside(std::initializer_list<const void*> reads, const std::function<void()>& body) {
  // Every join hands on what was held meanwhile: rarer ones would keep more maps in memory.
  constexpr int kMost = 9;
  if (context_.on_host() || mode_ != Mode::training || current_.fork != 0) return body();
  if (asides_ == kMost) close_asides();
  if (!aside_open_) {
    context_.fork(2);
    aside_open_ = true;
    context_.use_branch(0);
  }
  ++asides_;
  const int ready = context_.mark();
  context_.use_branch(1);
  context_.await(ready);
  body();
  const int done = context_.mark();
  for (const void* memory : reads)
    if (memory != nullptr) read_until_[memory] = done;
  context_.use_branch(0);
}

void Tape::await_readers(const void* memory) {
  if (!aside_open_) return;
  if (const auto found = read_until_.find(memory); found != read_until_.end()) context_.await(found->second);
}

void Tape::close_asides() {
  if (!std::exchange(aside_open_, false)) return;
  asides_ = 0;
  read_until_.clear();
  context_.join();
  held_.clear();
  report_ready();
}

// After an exception: the device and its memory must not stay forked.
void Tape::leave_fork() noexcept {
  ready_.clear();
  try {
    close_asides();
    move_to({});
  } catch (const std::exception&) {
    // The first exception says more.
  }
}

std::pair<Tensor*, Accumulate> Tape::claim_grad(Node& node) {
  Tensor* grad = &node.grad;
  bool* written = &node.grad_written;
  if (current_.fork != 0) {
    if (node.made_in.fork == current_.fork && node.made_in.branch != current_.branch)
      throw std::logic_error("Tape: a branch used a value of another one, " + node.value.shape().to_string());
    if (!node.branch_grads.empty()) {
      if (current_.branch > 0) {
        Node::BranchGrad& own = node.branch_grads.at(static_cast<size_t>(current_.branch - 1));
        grad = &own.grad;
        written = &own.written;
      }
    } else if (grad_from_.try_emplace(&node, current_.branch).first->second != current_.branch) {
      throw std::logic_error("Tape: two branches add to the gradient of one value " + node.value.shape().to_string());
    }
  }
  if (grad->empty()) *grad = context_.empty(node.value.shape(), node.value.dtype());
  await_readers(grad->data());
  const Accumulate mode = *written ? Accumulate::add : Accumulate::overwrite;
  *written = true;
  return {grad, mode};
}

void Tape::pass_grad(Var output, Var input) {
  Node& node = input.node();
  if (node.grad.empty() && mode_ == Mode::training) {
    node.grad = std::move(output.node().grad);
    node.grad_written = true;
    if (current_.fork != 0) grad_from_.emplace(&node, current_.branch);
    return;
  }
  run_map(input, [&]<class T>(auto& device) {
    const auto target = grad_of<T>(input);
    kernels::copy<T>(device, grad<T>(output), target.grad, target.mode);
  });
}

void Tape::backward() {
  try {
    run_backward();
    close_asides();
  } catch (...) {
    leave_fork();
    throw;
  }
  move_to({});
}

void Tape::run_backward() {
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    move_to(step->branch);
    Node& output = step->output.node();
    if (output.grad_written) step->backward();
    step->backward = nullptr;  // what the closure owns goes back to the pool
    for (Node* leaf : step->leaves) finish_input(leaf);
    if (mode_ == Mode::training) {
      // Every reader of this value comes later on the tape and has run its backward step.
      for (Tensor* done : {&output.value, &output.grad}) {
        if (read_until_.contains(done->data())) held_.push_back(std::move(*done));
        *done = Tensor();
      }
    }
  }
  steps_.clear();
}

void Tape::note(std::string name, Var value) {
  if (mode_ == Mode::inspection) noted_.emplace_back(std::move(name), value);
}

void Tape::note(std::string name, const Tensor& value) {
  if (mode_ != Mode::inspection) return;
  Tensor copy = context_.empty(value.shape(), value.dtype());
  context_.copy(value, copy);
  note(std::move(name), constant(std::move(copy)));
}

Var Tape::noted(const std::string& name) const {
  for (const auto& [known, value] : noted_)
    if (known == name) return value;
  throw std::out_of_range("Tape: nothing noted as '" + name + "'");
}

void Tape::add_cost(const std::string& layer, int64_t multiply_adds) {
  if (mode_ == Mode::shapes) costs_[layer] += multiply_adds;
}

}  // namespace gradlibra
