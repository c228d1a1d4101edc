// SPDX-License-Identifier: MIT
#include "runtime/training/parameters.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise.h"
#include "runtime/base/random.h"

namespace gradlibra {

namespace {
// Parameters start on multiples of this many floats (64 bytes).
constexpr int64_t kAlign = 16;
int64_t padded(int64_t size) { return (size + kAlign - 1) / kAlign * kAlign; }
}  // namespace

Parameter& ParameterStore::add(std::string name, Shape shape, Init init, Role role, bool trainable) {
  if (!values_.empty()) throw std::logic_error("ParameterStore: add after allocate: " + name);
  Parameter& p = parameters_.emplace_back();
  p.name = std::move(name);
  p.role = role;
  p.section = section_;
  p.node.value = Tensor::borrow<float>(nullptr, shape);
  p.node.requires_grad = trainable;
  p.layout = role == Role::convolution_weight ? FileLayout::convolution : FileLayout::as_is;
  if (init.kind == Init::Kind::values && static_cast<int64_t>(init.values.size()) != shape.size())
    throw std::logic_error("ParameterStore: " + std::to_string(init.values.size()) + " start values for " + p.name +
                           " " + shape.to_string());
  p.init = std::move(init);
  p.trainable = trainable;
  if (!by_name_.emplace(p.name, &p).second) throw std::logic_error("ParameterStore: two parameters named " + p.name);
  return p;
}

Parameter& ParameterStore::add_buffer(std::string name, Shape shape, Init init, Role role) {
  Parameter& p = add(std::move(name), shape, std::move(init), role, false);
  p.buffer = true;
  return p;
}

void ParameterStore::train_only(const std::function<bool(const Parameter&)>& wanted) {
  if (!values_.empty()) throw std::logic_error("ParameterStore: train_only is called before allocate");
  for (Parameter& p : parameters_) {
    p.trainable = p.trainable && wanted(p);
    p.node.requires_grad = p.trainable;
  }
}

void ParameterStore::allocate() {
  int64_t trainable = 0, other = 0;
  offsets_.clear();
  for (const Parameter& p : parameters_) {
    offsets_.push_back(p.trainable ? trainable : other);
    (p.trainable ? trainable : other) += padded(p.node.value.size());
  }
  values_ = context_.zeros({trainable});
  grads_ = context_.zeros({trainable});
  velocities_ = context_.zeros({trainable});
  others_ = context_.zeros({other});
  const bool mixed = context_.map_dtype() == DType::bf16;
  if (mixed) {
    rounded_values_ = context_.zeros({trainable}, DType::bf16);
    rounded_others_ = context_.zeros({other}, DType::bf16);
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = parameters_[i];
    const Shape shape = p.node.value.shape();
    float* values = (p.trainable ? values_ : others_).view().data() + offsets_[i];
    p.node.value = Tensor::borrow(values, shape);
    if (mixed) {
      Tensor& rounded = p.trainable ? rounded_values_ : rounded_others_;
      p.node.rounded = Tensor::borrow(rounded.view<bfloat16>().data() + offsets_[i], shape);
    }
    if (!p.trainable) continue;
    p.node.grad = Tensor::borrow(grads_.view().data() + offsets_[i], shape);
    p.velocity = Tensor::borrow(velocities_.view().data() + offsets_[i], shape);
  }
}

void ParameterStore::move_gradients(View<float> memory) {
  require_shape("ParameterStore::move_gradients", "memory", memory, grads_.shape());
  grads_ = Tensor::borrow(memory.data(), memory.shape());
  context_.zero(grads_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = parameters_[i];
    if (p.trainable) p.node.grad = Tensor::borrow(memory.data() + offsets_[i], p.node.value.shape());
  }
}

void ParameterStore::share_between_branches(Range parameters, int branches) {
  if (values_.empty() || !branch_grads_.empty())
    throw std::logic_error("ParameterStore: share_between_branches is called once, after allocate");
  int64_t begin = grads_.size(), end = 0;
  for (size_t i = parameters.first; i < parameters.last; ++i) {
    if (!parameters_[i].trainable) continue;
    begin = std::min(begin, offsets_[i]);
    end = std::max(end, offsets_[i] + padded(parameters_[i].node.value.size()));
  }
  if (begin >= end) return;
  shared_begin_ = begin;
  for (int branch = 1; branch < branches; ++branch) branch_grads_.push_back(context_.zeros({end - begin}));
  for (size_t i = parameters.first; i < parameters.last; ++i) {
    Parameter& p = parameters_[i];
    if (!p.trainable) continue;
    for (Tensor& block : branch_grads_)
      p.node.branch_grads.push_back(
          {Tensor::borrow(block.view().data() + (offsets_[i] - begin), p.node.value.shape()), false});
  }
}

void ParameterStore::initialize(uint64_t seed) {
  for (Parameter& p : parameters_) {
    std::vector<float> values(static_cast<size_t>(p.node.value.size()));
    RandomStream random(seed, {hash_name(p.name.data(), p.name.size())});
    if (p.init.kind == Init::Kind::values) values = p.init.values;
    for (float& v : values) {
      switch (p.init.kind) {
        case Init::Kind::constant:
          v = static_cast<float>(p.init.value);
          break;
        case Init::Kind::normal:
          v = static_cast<float>(random.normal(0, p.init.value));
          break;
        case Init::Kind::uniform:
          v = static_cast<float>(random.uniform(-p.init.value, p.init.value));
          break;
        case Init::Kind::values:
          break;
      }
    }
    context_.upload<float>(values, p.node.value);
  }
  weights_changed();
}

void ParameterStore::weights_changed() {
  if (!rounded_values_.empty())
    context_.run([&](auto& device) {
      kernels::cast(device, std::as_const(values_).view(), rounded_values_.view<bfloat16>());
      kernels::cast(device, std::as_const(others_).view(), rounded_others_.view<bfloat16>());
    });
  context_.convolution().weights_changed();
}

Parameter* ParameterStore::find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::vector<ParameterStore::Group> ParameterStore::groups() const {
  std::vector<Group> groups;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    if (!p.trainable) continue;
    const int64_t end = offsets_[i] + padded(p.node.value.size());
    if (groups.empty() || groups.back().lr_factor != p.lr_factor || groups.back().decay_factor != p.decay_factor)
      groups.push_back({offsets_[i], end, p.lr_factor, p.decay_factor});
    groups.back().end = end;
  }
  return groups;
}

View<float> ParameterStore::flat_values(const Group& group) {
  return {values_.view().data() + group.begin, {group.end - group.begin}};
}

Tensor ParameterStore::counterpart(const Parameter& parameter, Tensor& block) {
  const float* begin = (parameter.trainable ? values_ : others_).view().data();
  const auto offset = std::as_const(parameter.node.value).view().data() - begin;
  return Tensor::borrow(block.view().data() + offset, parameter.node.value.shape());
}

void ParameterStore::finish_backward(Range range) {
  for (size_t i = range.first; i < range.last; ++i) {
    Parameter& p = parameters_[i];
    if (!p.trainable) continue;
    if (!p.node.grad_written) context_.run([&](auto& device) { kernels::fill(device, p.node.grad.view(), 0.0f); });
    p.node.grad_written = false;
    for (Node::BranchGrad& part : p.node.branch_grads) {
      if (!part.written) context_.run([&](auto& device) { kernels::fill(device, part.grad.view(), 0.0f); });
      part.written = false;
    }
  }
  const Extent own = extent(range);
  for (Tensor& part : branch_grads_) {
    const int64_t begin = std::max(own.begin, shared_begin_), end = std::min(own.end, shared_begin_ + part.size());
    if (begin >= end) continue;
    const View<const float> from(part.view().data() + (begin - shared_begin_), {end - begin});
    const View<float> sum(grads_.view().data() + begin, {end - begin});
    context_.run([&](auto& device) { kernels::copy(device, from, sum, Accumulate::add); });
  }
}

ParameterStore::Extent ParameterStore::extent(Range range) const {
  Extent extent;
  for (size_t i = range.first; i < range.last; ++i) {
    const Parameter& p = parameters_[i];
    if (!p.trainable) continue;
    if (extent.end == 0) extent.begin = offsets_[i];
    extent.end = offsets_[i] + padded(p.node.value.size());
  }
  return extent;
}

int64_t ParameterStore::trainable_count() const {
  int64_t count = 0;
  for (const Parameter& p : parameters_) count += p.trainable ? p.node.value.size() : 0;
  return count;
}

int64_t ParameterStore::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& p : parameters_) count += p.buffer ? 0 : p.node.value.size();
  return count;
}

}  // namespace gradlibra
