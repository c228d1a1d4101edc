// SPDX-License-Identifier: MIT
#include "runtime/training/weights.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

namespace gradlibra {

namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

// The shape of a tensor in files: (K, R, S, C) becomes (K, C, R, S).
std::vector<int64_t> file_shape(const Shape& shape, FileLayout layout) {
  if (layout == FileLayout::convolution) return {shape[0], shape[3], shape[1], shape[2]};
  return {shape.dims().begin(), shape.dims().end()};
}

// Copies between the two orders of a convolution weight of memory shape (K, R, S, C).
void reorder(const Shape& s, const std::vector<float>& from, std::vector<float>& to, bool to_file) {
  const int64_t K = s[0], taps = s[1] * s[2], C = s[3];
  for (int64_t k = 0; k < K; ++k)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < C; ++c) {
        const auto memory = static_cast<size_t>((k * taps + t) * C + c),
                   file = static_cast<size_t>((k * C + c) * taps + t);
        if (to_file) {
          to[file] = from[memory];
        } else {
          to[memory] = from[file];
        }
      }
}

bool holds_floats(const FileTensor& tensor) {
  return tensor.dtype == FileDType::f32 || tensor.dtype == FileDType::f16 || tensor.dtype == FileDType::bf16 ||
         tensor.dtype == FileDType::f64;
}

std::vector<float> download_floats(Context& context, const Tensor& tensor) {
  if (tensor.dtype() != DType::bf16) return context.download<float>(tensor);
  const std::vector<bfloat16> rounded = context.download<bfloat16>(tensor);
  std::vector<float> values(rounded.size());
  std::transform(rounded.begin(), rounded.end(), values.begin(), [](bfloat16 v) { return to_float(v); });
  return values;
}

void append_list(std::string& text, const char* title, const std::vector<std::string>& names) {
  text += std::string("  ") + title + ": " + std::to_string(names.size());
  constexpr size_t kShown = 8;
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += "\n    " + names[i];
  if (names.size() > kShown) text += "\n    .. and " + std::to_string(names.size() - kShown) + " more";
  text += "\n";
}

bool is_finite(const FileTensor& tensor) {
  const std::vector<float> values = tensor.to_floats();
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// What a model has no use for: counters, what training keeps beside the weights, the classifier of a network for whole
// images (torchvision's "fc.", mmpretrain's "head.fc.").
bool is_ignored(std::string_view name, WeightScope scope) {
  if (name.ends_with("num_batches_tracked")) return true;
  for (const std::string_view prefix : {"optim.", "train.", "average."})
    if (name.starts_with(prefix)) return true;
  if (scope != WeightScope::backbone) return false;
  for (const std::string_view prefix : {"fc.", "backbone.fc.", "head."})
    if (name.starts_with(prefix)) return true;
  return false;
}

}  // namespace

bool fits(const FileTensor& file, const Shape& shape, FileLayout layout) {
  return file.shape == file_shape(shape, layout);
}

void from_file_tensor(Context& context, const FileTensor& file, Tensor& tensor, FileLayout layout) {
  std::vector<float> values = file.to_floats();
  if (layout == FileLayout::convolution) {
    std::vector<float> ordered(values.size());
    reorder(tensor.shape(), values, ordered, false);
    values = std::move(ordered);
  }
  context.upload<float>(values, tensor);
}

std::string WeightReport::to_string() const {
  std::string text = "  matched: " + std::to_string(matched.size()) + "\n";
  append_list(text, "missing from the file", missing);
  append_list(text, "unexpected in the file", unexpected);
  append_list(text, "of another shape or type", mismatched);
  if (!started.empty()) append_list(text, "left as it starts (classifier)", started);
  if (!ignored.empty()) text += "  ignored (counters, classifier): " + std::to_string(ignored.size()) + "\n";
  return text;
}

bool is_beyond_backbone(std::string_view name) { return name.starts_with("neck.") || name.starts_with("bbox_head."); }

WeightScope scope_of(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors)
    if (is_beyond_backbone(name)) return WeightScope::detector;
  return WeightScope::backbone;
}

WeightReport load_weights(ParameterStore& store, const SafetensorsFile& file, const std::string& file_name,
                          WeightScope scope) {
  WeightReport report;
  std::map<std::string, const FileTensor*> by_name;  // under the model's names
  for (const auto& [name, tensor] : file.tensors) {
    if (is_ignored(name, scope)) {
      report.ignored.push_back(name);
      continue;
    }
    const Parameter* known = store.find(name);
    if (scope == WeightScope::no_classifier && known != nullptr && known->classifier) continue;
    const bool bare = scope == WeightScope::backbone && !name.starts_with("backbone.");
    // "conv1.weight" and "backbone.conv1.weight" in one file: which is meant?
    if (!by_name.emplace(bare ? "backbone." + name : name, &tensor).second) report.unexpected.push_back(name);
  }
  std::vector<std::pair<Parameter*, const FileTensor*>> pairs;
  bool only_classifier = true;  // of what is mismatched
  for (Parameter& p : store.all()) {
    if (scope == WeightScope::backbone && p.section != Section::backbone) continue;
    if (scope == WeightScope::no_classifier && p.classifier) {
      report.started.push_back(p.name);
      continue;
    }
    const auto found = by_name.find(p.name);
    if (found == by_name.end()) {
      report.missing.push_back(p.name);
      continue;
    }
    const std::vector<int64_t> expected = file_shape(p.node.value.shape(), p.layout);
    if (!holds_floats(*found->second)) {
      report.mismatched.push_back(p.name + ": file " + std::string(to_string(found->second->dtype)) + ", model F32");
    } else if (!is_finite(*found->second)) {
      report.mismatched.push_back(p.name + ": values that are not finite; the file is of no use");
    } else if (found->second->shape != expected) {
      report.mismatched.push_back(p.name + ": file " + shape_text(found->second->shape) + ", model " +
                                  shape_text(expected));
    } else {
      report.matched.push_back(p.name);
      pairs.emplace_back(&p, found->second);
    }
    if (pairs.empty() || pairs.back().first != &p) only_classifier = only_classifier && p.classifier;
    by_name.erase(found);
  }
  for (const auto& [name, tensor] : by_name) report.unexpected.push_back(name);
  const bool other_classes =
      report.missing.empty() && report.unexpected.empty() && !report.mismatched.empty() && only_classifier;
  if (!report.missing.empty() || !report.mismatched.empty() || !report.unexpected.empty() || pairs.empty())
    throw std::runtime_error(file_name + " does not fit the model; nothing was loaded\n" + report.to_string() +
                             (other_classes ? "the file was trained for other classes; train.pretrained_scope="
                                              "no_classifier trains from it with a new classifier"
                                            : "check model.detector, model.backbone.depth, model.neck, model.head and "
                                              "the class list against the file"));
  for (const auto& [parameter, tensor] : pairs)
    from_file_tensor(store.context(), *tensor, parameter->node.value, parameter->layout);
  store.weights_changed();
  return report;
}

FileTensor to_file_tensor(Context& context, const Tensor& tensor, FileLayout layout) {
  std::vector<float> values = download_floats(context, tensor);
  if (layout == FileLayout::convolution) {
    std::vector<float> ordered(values.size());
    reorder(tensor.shape(), values, ordered, true);
    values = std::move(ordered);
  }
  return make_file_tensor(values, file_shape(tensor.shape(), layout));
}

void save_weights(ParameterStore& store, SafetensorsFile& file) {
  for (const Parameter& p : store.all()) file.tensors[p.name] = to_file_tensor(store.context(), p.node.value, p.layout);
}

namespace {
constexpr const char* kMomentumPrefix = "optim.momentum.";
}

void save_velocities(ParameterStore& store, SafetensorsFile& file) {
  for (const Parameter& p : store.all())
    if (p.trainable) file.tensors[kMomentumPrefix + p.name] = to_file_tensor(store.context(), p.velocity, p.layout);
}

void load_velocities(ParameterStore& store, const SafetensorsFile& file, const std::string& file_name) {
  for (Parameter& p : store.all()) {
    if (!p.trainable) continue;
    const auto found = file.tensors.find(kMomentumPrefix + p.name);
    if (found == file.tensors.end() || !fits(found->second, p.node.value.shape(), p.layout))
      throw std::runtime_error(file_name + ": the optimiser state of " + p.name + " is missing or of another shape");
    from_file_tensor(store.context(), found->second, p.velocity, p.layout);
  }
}

namespace {

constexpr const char* kStatePrefix = "train.state.";

// nullptr: it is missing or of another shape or type.
const FileTensor* find_state(const TrainingState& state, const SafetensorsFile& file) {
  const auto dims = state.values->shape().dims();
  const auto found = file.tensors.find(kStatePrefix + state.name);
  const bool fits = found != file.tensors.end() && found->second.dtype == FileDType::f64 &&
                    found->second.shape == std::vector<int64_t>(dims.begin(), dims.end());
  return fits ? &found->second : nullptr;
}

std::vector<double> stored_state(const TrainingState& state, const SafetensorsFile& file,
                                 const std::string& file_name) {
  const FileTensor* const tensor = find_state(state, file);
  if (tensor == nullptr)
    throw std::runtime_error(file_name + ": the training state " + kStatePrefix + state.name +
                             " is missing or of another shape or type; was it trained with another model.loss?");
  return tensor->values<double>();
}

void require_same(Context& context, const TrainingState& state, const std::vector<double>& stored,
                  const std::string& file_name) {
  const std::vector<double> here = context.download<double>(*state.values);
  for (size_t i = 0; i < here.size(); ++i)
    if (here[i] != stored[i])
      throw std::runtime_error(file_name + ": " + kStatePrefix + state.name + " has " + std::to_string(stored[i]) +
                               " at " + std::to_string(i) + ", the annotations and model.loss of now make it " +
                               std::to_string(here[i]) + "; use those that it was trained with, or another --work-dir");
}

}  // namespace

void save_state(Context& context, const std::vector<TrainingState>& states, SafetensorsFile& file) {
  for (const TrainingState& state : states) {
    const auto dims = state.values->shape().dims();
    file.tensors[kStatePrefix + state.name] =
        make_file_tensor(context.download<double>(*state.values), {dims.begin(), dims.end()});
  }
}

void load_state(Context& context, const std::vector<TrainingState>& states, const SafetensorsFile& file,
                const std::string& file_name) {
  std::set<std::string> wanted;
  for (const TrainingState& state : states) {
    if (state.name.starts_with(kDiagnosticState) && find_state(state, file) == nullptr) {
      context.zero(*state.values);
      continue;
    }
    const std::vector<double> values = stored_state(state, file, file_name);
    if (state.fixed)
      require_same(context, state, values, file_name);
    else
      context.upload<double>(values, *state.values);
    wanted.insert(kStatePrefix + state.name);
  }
  for (const auto& [name, tensor] : file.tensors)
    if (name.starts_with(kStatePrefix) && !wanted.contains(name) &&
        !name.starts_with(std::string(kStatePrefix) + std::string(kDiagnosticState)))
      throw std::runtime_error(file_name + ": holds the training state " + name +
                               ", which this model.loss does not have");
}

void check_fixed_state(Context& context, const std::vector<TrainingState>& states, const SafetensorsFile& file,
                       const std::string& file_name) {
  for (const TrainingState& state : states)
    if (state.fixed) require_same(context, state, stored_state(state, file, file_name), file_name);
}

}  // namespace gradlibra
