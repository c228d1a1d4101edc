// SPDX-License-Identifier: MIT
// Reverse-mode differentiation by a tape: ops append what they did, backward() walks it in reverse.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/grad_target.h"
#include "runtime/device/context.h"
#include "runtime/device/map.h"

namespace gradlibra {

// Where in the order of work something is made: `fork` counts the forks of a tape, 0 is outside of all; `branch` is one
// of its branches.
struct TapeBranch {
  int fork = 0, branch = 0;
  friend bool operator==(const TapeBranch&, const TapeBranch&) = default;
};

// A value in the computation and the gradient of the total loss with respect to it.
struct Node {
  Tensor value;
  Tensor grad;     // of value's type; allocated when first written
  Tensor rounded;  // mixed precision: a weight as the bfloat16 that convolutions take (ParameterStore::weights_changed)
  TapeBranch made_in;  // where its op stands on the tape
  bool requires_grad = false;
  bool on_tape = false;       // made by an op or as a constant; false for a parameter
  bool grad_written = false;  // this step: false means the gradient is zero and `grad` may hold anything
  // Of a parameter that branches share: where each but the first adds up its part
  // (ParameterStore::share_between_branches).
  struct BranchGrad {
    Tensor grad;
    bool written = false;
  };
  std::vector<BranchGrad> branch_grads;
};

// A handle to a node; the tape (or the parameter store) owns it.
class Var {
 public:
  Var() = default;
  explicit Var(Node* node) : node_(node) {}
  [[nodiscard]] Node& node() const { return *node_; }
  [[nodiscard]] explicit operator bool() const { return node_ != nullptr; }
  [[nodiscard]] const Shape& shape() const { return node_->value.shape(); }
  [[nodiscard]] int64_t dim(int i) const { return shape().dim(i); }
  [[nodiscard]] bool requires_grad() const { return node_ != nullptr && node_->requires_grad; }
  [[nodiscard]] DType dtype() const { return node_->value.dtype(); }
  template <class T = float>
  [[nodiscard]] View<const T> view() const {
    return std::as_const(node_->value).view<T>();
  }
  template <class T = float>
  [[nodiscard]] View<T> out() const {  // for the op that computes it
    return node_->value.view<T>();
  }

 private:
  Node* node_ = nullptr;
};

class Tape {
 public:
  enum class Mode {
    training,    // record; release each value as soon as its backward step has run
    inspection,  // record; keep every value and gradient
    inference,   // record nothing; values live until the tape dies
    shapes,      // compute nothing, allocate nothing: shapes and costs only
  };
  explicit Tape(Context& context, Mode mode = Mode::training) : context_(context), mode_(mode) {}

  [[nodiscard]] Context& context() { return context_; }
  [[nodiscard]] Mode mode() const { return mode_; }
  [[nodiscard]] bool recording() const { return mode_ == Mode::training || mode_ == Mode::inspection; }
  [[nodiscard]] bool computes() const { return mode_ != Mode::shapes; }

  // A value that nothing is differentiated by: an image batch.
  [[nodiscard]] Var constant(Tensor value);
  // The uninitialised result of an op; requires_grad: whether any input does.
  [[nodiscard]] Var make(Shape shape, bool requires_grad, DType dtype = DType::f32);
  // Memory for an op's own use; an empty tensor in mode `shapes`.
  [[nodiscard]] Tensor buffer(Shape shape, DType dtype = DType::f32) {
    return computes() ? context_.empty(shape, dtype) : Tensor();
  }

  // Calls body(executor), unless only shapes are wanted.
  template <class Body>
  void run(Body&& body) {
    if (computes()) context_.run(std::forward<Body>(body));
  }
  // The same for kernels on maps: body.operator()<T>(executor), T the type that `map` is stored as.
  template <class Body>
  void run_map(Var map, Body&& body) {
    if (map.dtype() == DType::bf16)
      run([&](auto& device) { body.template operator()<bfloat16>(device); });
    else
      run([&](auto& device) { body.template operator()<float>(device); });
  }

  // Calls body(i) for every i in [0, count). The calls must not need each other's results: on a device with branches
  // each is one, in the backward pass as well. Two of them may read one value from outside, and add to the gradient of
  // none but that of a parameter shared between branches (std::logic_error in the backward pass). Does not nest.
  void in_branches(int count, const std::function<void(int)>& body);

  // In a backward step: work whose results nothing reads before backward() ends, such as the gradient of a weight. On a
  // GPU it runs beside what comes after; `reads` is the memory of maps that it reads, which is not written or given to
  // others meanwhile. On a host, within branches and in inspection it runs in its turn.
  void aside(std::initializer_list<const void*> reads, const std::function<void()>& body);
  // Scratch memory that an aside reads: kept until that has run.
  void keep_for_asides(Tensor scratch) {
    if (aside_open_) held_.push_back(std::move(scratch));
  }
  // Before a backward step writes to memory that an earlier aside may be reading.
  void await_readers(const void* memory);

  // The op that made `output` from `inputs` (empty ones are allowed) says how its gradient flows back. Not called if
  // `output` does not require one, or if nothing wrote it. When it runs, output.grad is complete. Values that backward
  // reads must be inputs or outputs of recorded ops or be owned by the closure; gradients that it adds to are those of
  // `inputs`.
  void on_backward(Var output, const std::vector<Var>& inputs, std::function<void()> step);

  // To be set before anything is recorded: backward() calls ready(node) for every node that requires a gradient and was
  // not made on this tape (a parameter), as soon as nothing that is left to do adds to its gradient: a reduction over
  // ranks may run beside the rest. In the order of the backward pass, outside of forks: what branches have computed
  // comes after the join, still in parts (ParameterStore::finish_backward). A gradient may be unwritten then.
  void on_grad_ready(std::function<void(Node&)> ready);

  // To be set before anything is recorded: batch norms that train take the statistics of the batch over several ranks,
  // which all record the same ops. sum(values) sums over them, in its place on the stream (Communicator::sum).
  using SumOverRanks = std::function<void(View<double>)>;
  void share_statistics(SumOverRanks sum) { sum_over_ranks_ = std::move(sum); }
  [[nodiscard]] const SumOverRanks& sum_over_ranks() const { return sum_over_ranks_; }  // empty: one process alone

  // Where an op adds the gradient of an input: it overwrites what nobody has written yet (first contribution).
  template <class T = float>
  using GradTarget = gradlibra::GradTarget<T>;
  template <class T = float>
  [[nodiscard]] GradTarget<T> grad_of(Var input) {
    const auto [grad, mode] = claim_grad(input.node());
    return {grad->view<T>(), mode};
  }
  // The same, without memory for an input that requires no gradient or is empty.
  template <class T = float>
  [[nodiscard]] GradTarget<T> grad_if_wanted(Var input) {
    return input.requires_grad() ? grad_of<T>(input) : GradTarget<T>{};
  }
  struct GradMap {
    Map grad;
    Accumulate mode;
  };
  [[nodiscard]] GradMap grad_map_of(Var input) {
    const auto [grad, mode] = claim_grad(input.node());
    return {*grad, mode};
  }
  // The finished gradient of an op's output.
  template <class T = float>
  [[nodiscard]] static View<T> grad(Var output) {
    return output.node().grad.view<T>();
  }
  // `input` gets the finished gradient of `output` as it is, which nothing reads after this: its memory where that is
  // free, else a sum.
  void pass_grad(Var output, Var input);

  // Runs all recorded steps in reverse. Loss ops have already written the gradients of their inputs.
  void backward();

  // In mode `inspection`, gives a value a name under which `inspect step` writes it (and its gradient); a tensor is
  // copied as it is now. Free in other modes.
  void note(std::string name, Var value);
  void note(std::string name, const Tensor& value);
  [[nodiscard]] const std::vector<std::pair<std::string, Var>>& noted() const { return noted_; }
  // The value of that name; std::out_of_range if there is none.
  [[nodiscard]] Var noted(const std::string& name) const;

  // Multiply-adds of a layer, summed over its calls; collected in mode `shapes`.
  void add_cost(const std::string& layer, int64_t multiply_adds);
  [[nodiscard]] const std::map<std::string, int64_t>& costs() const { return costs_; }

 private:
  std::pair<Tensor*, Accumulate> claim_grad(Node& node);
  void move_to(TapeBranch to);  // forks, changes branches and joins as needed
  void leave_fork() noexcept;
  void run_backward();
  void finish_input(Node* leaf);
  void report_ready();
  void close_asides();
  struct Step {
    Var output;
    std::vector<Node*>
        leaves;  // of its inputs, those that no op made; only while somebody wants to know when they are ready
    TapeBranch branch;
    std::function<void()> backward;
  };
  Context& context_;
  Mode mode_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Step> steps_;
  TapeBranch current_;                     // what is recorded or run now belongs to it
  std::vector<int> fork_sizes_;            // branches of each fork
  std::map<const Node*, int> grad_from_;   // during a fork of the backward pass: which branch adds to a gradient
  bool aside_open_ = false;                // a fork of two: asides are branch 1
  int asides_ = 0;                         // since it was opened
  std::map<const void*, int> read_until_;  // memory that asides read, and a mark behind the last that does
  std::vector<Tensor> held_;               // what would else be given to others
  std::function<void(Node&)> grad_ready_;
  SumOverRanks sum_over_ranks_;
  std::map<const Node*, int> uses_;  // steps that may still add to a leaf's gradient
  std::vector<Node*> ready_;         // complete, but a fork is not joined yet
  std::vector<std::pair<std::string, Var>> noted_;
  std::map<std::string, int64_t> costs_;
};

}  // namespace gradlibra
