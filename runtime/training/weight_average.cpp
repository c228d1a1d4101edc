// SPDX-License-Identifier: MIT
#include "runtime/training/weight_average.h"

#include <stdexcept>
#include <vector>

#include "kernels/elementwise.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

constexpr std::string_view kPrefix = "average.";

}  // namespace

WeightAverage::WeightAverage(ParameterStore& parameters, double decay)
    : parameters_(parameters), decay_(static_cast<float>(decay)) {
  if (!(decay >= 0 && decay < 1))
    throw std::invalid_argument("the decay of averaged weights is " + std::to_string(decay) + ", must be in [0, 1)");
  Context& context = parameters.context();
  trained_ = context.zeros(parameters.flat_values().shape());
  fixed_ = context.zeros(parameters.flat_fixed().shape());
  restart();
}

void WeightAverage::restart() {
  parameters_.context().copy(parameters_.flat_values(), trained_);
  parameters_.context().copy(parameters_.flat_fixed(), fixed_);
}

void WeightAverage::update() {
  parameters_.context().run([&](auto& device) {
    const auto blend = [&](const Tensor& values, Tensor& average) {
      kernels::scale(device, std::as_const(average).view(), decay_, average.view(), Accumulate::overwrite);
      kernels::scale(device, values.view(), 1 - decay_, average.view(), Accumulate::add);
    };
    blend(parameters_.flat_values(), trained_);
    blend(parameters_.flat_fixed(), fixed_);
  });
}

void WeightAverage::swap() {
  Context& context = parameters_.context();
  const auto exchange = [&](Tensor& values, Tensor& average) {
    Tensor kept = context.empty(values.shape());
    context.copy(values, kept);
    context.copy(average, values);
    context.copy(kept, average);
  };
  exchange(parameters_.flat_values(), trained_);
  exchange(parameters_.flat_fixed(), fixed_);
  parameters_.weights_changed();
}

void WeightAverage::save(SafetensorsFile& file) {
  for (const Parameter& p : parameters_.all())
    file.tensors[std::string(kPrefix) + p.name] =
        to_file_tensor(parameters_.context(), parameters_.counterpart(p, p.trainable ? trained_ : fixed_), p.layout);
}

bool WeightAverage::load(const SafetensorsFile& file, const std::string& file_name) {
  size_t found = 0;
  for (const auto& [name, tensor] : file.tensors) found += name.starts_with(kPrefix);
  restart();
  if (found == 0) return false;
  for (const Parameter& p : parameters_.all()) {
    const auto tensor = file.tensors.find(std::string(kPrefix) + p.name);
    Tensor average = parameters_.counterpart(p, p.trainable ? trained_ : fixed_);
    if (tensor == file.tensors.end() || !fits(tensor->second, average.shape(), p.layout))
      throw std::runtime_error(file_name + ": the averaged weight of " + p.name + " is missing or of another shape");
    from_file_tensor(parameters_.context(), tensor->second, average, p.layout);
  }
  return true;
}

bool use_average(SafetensorsFile& file) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file.tensors)
    if (name.starts_with(kPrefix)) names.push_back(name);
  for (const std::string& name : names) {
    auto node = file.tensors.extract(name);
    file.tensors[name.substr(kPrefix.size())] = std::move(node.mapped());
  }
  return !names.empty();
}

}  // namespace gradlibra
