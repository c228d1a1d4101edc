// SPDX-License-Identifier: MIT
#include "engine/step_dump.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/batches.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

std::vector<int64_t> dims_of(const Tensor& t) { return {t.shape().dims().begin(), t.shape().dims().end()}; }

// A value of the tape as files have it: maps (N, H, W, C) become (N, C, H, W), by the same reordering as a weight's;
// assignments stay integers, a double becomes a scalar.
FileTensor value_tensor(Context& context, const Tensor& tensor) {
  if (tensor.dtype() == DType::i32) return make_file_tensor(context.download<int32_t>(tensor), dims_of(tensor));
  if (tensor.dtype() == DType::f64) return make_file_scalar(context.download<double>(tensor).at(0));
  const bool map = tensor.shape().rank() == 4;
  return to_file_tensor(context, tensor, map ? FileLayout::convolution : FileLayout::as_is);
}

// What the loss has accumulated; diagnostics have no effect on a step.
void put_state(Detector& detector, const std::string& prefix, SafetensorsFile& file) {
  for (const TrainingState& state : detector.state())
    if (!state.name.starts_with(kDiagnosticState))
      file.tensors[prefix + state.name] =
          make_file_tensor(detector.context().download<double>(*state.values), dims_of(*state.values));
}

// Where a loss that is no number comes from. In the backward pass a value's gradient is there before those of what it
// was made from.
std::string first_non_finite(const SafetensorsFile& file, const Detector& detector, const Tape& tape,
                             const std::vector<LossTerm>& terms) {
  std::vector<std::string> order;
  for (const Parameter& p : detector.parameters().all()) order.push_back("param/" + p.name);
  const auto states = [&](const std::string& prefix) {
    for (const auto& [name, tensor] : file.tensors)
      if (name.starts_with(prefix)) order.push_back(name);
  };
  states("state/");
  for (const auto& [name, value] : tape.noted()) order.push_back(name);
  for (const LossTerm& term : terms) order.push_back("loss." + term.name);
  for (auto noted = tape.noted().rbegin(); noted != tape.noted().rend(); ++noted)
    order.push_back("grad/" + noted->first);
  for (const Parameter& p : detector.parameters().all()) order.push_back("grad/" + p.name);
  states("next/");
  const auto bad = std::find_if(order.begin(), order.end(), [&](const std::string& name) {
    const auto found = file.tensors.find(name);
    return found != file.tensors.end() && !all_finite(found->second);
  });
  return bad == order.end() ? "" : *bad;
}

}  // namespace

Batch batch_of(const Dataset& dataset, const ExperimentConfig& config, const std::vector<std::string>& ids) {
  Dataset chosen{dataset.classes, dataset.groups, {}, dataset.category_ids};
  if (ids.empty()) {
    const auto count = std::min(dataset.images.size(), static_cast<size_t>(config.loader.batch_size));
    chosen.images.assign(dataset.images.begin(), dataset.images.begin() + static_cast<int64_t>(count));
  }
  for (const std::string& id : ids) {
    const auto found =
        std::find_if(dataset.images.begin(), dataset.images.end(), [&](const ImageRecord& r) { return r.id == id; });
    if (found == dataset.images.end()) throw std::runtime_error("no image with id '" + id + "' in this split");
    chosen.images.push_back(*found);
  }
  LoaderConfig loader_config = config.loader;
  loader_config.batch_size = static_cast<int>(chosen.images.size());
  Loader loader(chosen, loader_config, config.data, LoaderMode::evaluate, {});
  Batch batch;
  if (!loader.next(batch)) throw std::runtime_error("the split has no images");
  return batch;
}

SafetensorsFile dump_step(Detector& detector, const Batch& batch) {
  Context& context = detector.context();
  DeviceBatch device;
  upload(context, batch, device);
  SafetensorsFile file;
  auto& tensors = file.tensors;
  // Before the forward pass, which moves the running statistics of batch norm in training mode.
  for (const Parameter& p : detector.parameters().all())
    tensors["param/" + p.name] = to_file_tensor(context, p.node.value, p.layout);
  put_state(detector, "state/", file);
  if (!detector.classes().instances.empty())
    tensors["gt.instances"] = make_file_tensor(detector.classes().instances, {detector.classes().count()});
  Tape tape(context, Tape::Mode::inspection);
  SingleProcess alone;
  const std::vector<LossTerm> terms = detector.loss(tape, detector.normalize(tape, device.images), device.truth, alone);
  tape.backward();

  for (const auto& [name, value] : tape.noted()) {
    tensors[name] = value_tensor(context, value.node().value);
    if (value.node().grad_written) tensors["grad/" + name] = value_tensor(context, value.node().grad);
  }
  detector.parameters().finish_backward();
  for (const Parameter& p : detector.parameters().all())
    if (p.trainable) tensors["grad/" + p.name] = to_file_tensor(context, p.node.grad, p.layout);
  const Tensor gained = detector.increments(), made = context.upload<float>(std::vector<float>{1}, {1});
  detector.commit(gained.empty() ? View<const double>() : gained.view<double>(), made.view<float>());
  put_state(detector, "next/", file);
  tensors["gt.boxes"] = make_file_tensor(batch.gt_boxes, dims_of(device.truth.boxes));
  tensors["gt.labels"] = make_file_tensor(batch.gt_labels, dims_of(device.truth.labels));
  tensors["gt.counts"] = make_file_tensor(batch.gt_counts, dims_of(device.truth.counts));
  for (const LossTerm& term : terms)
    tensors["loss." + term.name] = make_file_scalar(context.download<double>(term.value)[0]);
  if (const std::string bad = first_non_finite(file, detector, tape, terms); !bad.empty())
    file.metadata["first_non_finite"] = bad;
  file.metadata["format"] = "gradlibra step 1";
  file.metadata["layout"] = "maps N,C,H,W; weights O,I,kh,kw";
  file.metadata["images"] = nlohmann::json(batch.ids).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return file;
}

}  // namespace gradlibra
