// SPDX-License-Identifier: MIT
// The trainable tensors and buffers of a model by name, their gradients and velocities, each kind in one flat block.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/autograd/tape.h"

namespace gradlibra {

// How a tensor is laid out in files: convolution weights are (K, R, S, C) in memory and (K, C, R, S) on disk.
enum class FileLayout { as_is, convolution };

// How a parameter starts: constant(value), normal(0, value) or uniform(-value, value), or as `values` has it, one for
// each element.
struct Init {
  enum class Kind { constant, normal, uniform, values } kind = Kind::constant;
  double value = 0;
  std::vector<float> values = {};
};

// What a parameter or buffer is to the layer that made it. Names are for files and people; code asks for the role.
enum class Role { convolution_weight, bias, norm_scale, norm_shift, running_mean, running_variance, other };

// Which part of a detector it belongs to.
enum class Section { backbone, neck, head };

struct Parameter {
  std::string name;  // MMDetection's: "backbone.layer1.0.conv1.weight"
  Role role = Role::other;
  Section section = Section::head;
  Node node;                              // value and gradient
  Tensor velocity;                        // of SGD; empty if not trainable
  FileLayout layout = FileLayout::as_is;  // by its role
  Init init;
  bool trainable = true;    // false: frozen, or a buffer such as a running mean
  bool buffer = false;      // running statistics: saved and loaded, not counted as a parameter
  bool classifier = false;  // of the last layer of a head's class branch
  double lr_factor = 1;
  double decay_factor = 1;
};

// Filled while the model is built (add), then frozen into memory (allocate). References stay valid.
class ParameterStore {
 public:
  explicit ParameterStore(Context& context) : context_(context) {}

  // What is added from here on belongs to this section; without a call, to the head.
  void enter(Section section) { section_ = section; }

  // A second parameter of the same name is std::logic_error.
  Parameter& add(std::string name, Shape shape, Init init, Role role = Role::other, bool trainable = true);
  Parameter& add_buffer(std::string name, Shape shape, Init init, Role role = Role::other);

  // Before allocate(): a parameter that `wanted` does not name is a constant.
  void train_only(const std::function<bool(const Parameter&)>& wanted);

  // Gives every parameter its memory (values undefined, gradients and velocities 0): trainable ones first, in order of
  // addition, each starting on a 64-byte boundary, so that one kernel updates all neighbours with the same options.
  void allocate();

  struct Range {  // of parameters in order of addition; `last` is the first behind them
    size_t first = 0, last = 0;
  };
  // After allocate(): gradients lie there from now on, zeros at first. As many floats as flat_grads() has; outlives the
  // store.
  void move_gradients(View<float> memory);

  // After allocate(): these parameters are used by all branches of a fork. Each branch but the first gets a block of
  // its own for their gradients; finish_backward() adds the blocks up in the order of the branches. Once at most.
  void share_between_branches(Range parameters, int branches);
  [[nodiscard]] bool has_branch_grads() const { return !branch_grads_.empty(); }

  // Fills every parameter and buffer by its `init`, from a random stream of its own (seed, name): the order of
  // parameters and the size of others do not matter.
  void initialize(uint64_t seed);

  [[nodiscard]] std::deque<Parameter>& all() { return parameters_; }
  [[nodiscard]] const std::deque<Parameter>& all() const { return parameters_; }
  [[nodiscard]] Parameter* find(const std::string& name);

  // All gradients of trainable parameters (with zero padding between them), all values, all velocities: same length and
  // order.
  [[nodiscard]] Tensor& flat_grads() { return grads_; }
  [[nodiscard]] Tensor& flat_velocities() { return velocities_; }
  [[nodiscard]] Tensor& flat_values() { return values_; }
  // Values of what does not train: frozen parameters and buffers.
  [[nodiscard]] Tensor& flat_fixed() { return others_; }
  // A parameter's part of a block that is laid out as flat_values(), or as flat_fixed() where it does not train.
  [[nodiscard]] Tensor counterpart(const Parameter& parameter, Tensor& block);

  // Runs of neighbouring trainable parameters with equal factors: one update launch each.
  struct Group {
    int64_t begin, end;  // elements of the flat blocks
    double lr_factor, decay_factor;
  };
  [[nodiscard]] std::vector<Group> groups() const;
  [[nodiscard]] View<float> flat_values(const Group& group);

  // Values have changed (an update, a load): what is derived from them, rounded copies among it, is made anew.
  void weights_changed();

  // Sets the gradient of every trainable parameter that this step has not written to 0, adds what branches have
  // computed, and makes all ready for the next step. Of a range: behind everything that adds to the gradients in it;
  // ranges that cover the store, each once, do what one call does, to the bit.
  void finish_backward() { finish_backward({0, parameters_.size()}); }
  void finish_backward(Range range);

  // Where the gradients of the trainable parameters of a range lie in flat_grads(): elements [begin, end), with the
  // padding behind each. Empty if none of them trains.
  struct Extent {
    int64_t begin = 0, end = 0;
  };
  [[nodiscard]] Extent extent(Range range) const;

  [[nodiscard]] int64_t trainable_count() const;  // elements
  [[nodiscard]] int64_t parameter_count() const;  // elements, frozen ones included, buffers excluded
  [[nodiscard]] Context& context() { return context_; }

 private:
  Context& context_;
  Section section_ = Section::head;
  std::deque<Parameter> parameters_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::vector<int64_t> offsets_;  // into the flat blocks
  Tensor values_, grads_, velocities_, others_;
  int64_t shared_begin_ = 0;  // of the flat blocks: where the parameters begin that branches share
  std::vector<Tensor> branch_grads_;
  Tensor rounded_values_, rounded_others_;  // in mixed precision: the same as bfloat16
};

}  // namespace gradlibra
