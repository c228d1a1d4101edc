// SPDX-License-Identifier: MIT
// Parameters to and from safetensors under MMDetection's and torchvision's names, with a report of what fitted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/safetensors.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

// What a file and a model had in common. Names are the model's (matched, missing, mismatched) or the file's
// (unexpected).
struct WeightReport {
  std::vector<std::string> matched, missing, unexpected,
      mismatched;                               // mismatched: "name: file (64, 3, 7, 7), model (32, 3, 7, 7)"
  std::vector<std::string> ignored;             // counters and classifiers that a detector has no use for
  std::vector<std::string> started;             // the classifier, where the scope leaves it as it starts
  [[nodiscard]] std::string to_string() const;  // for a person, lists shortened
};

enum class WeightScope {
  // a classification network: names without "backbone." are accepted, "fc." is ignored; neck and head may be missing
  backbone,
  detector,  // everything must match
  // a detector of other classes: everything but its classifier must match, which is left as it is
  no_classifier,
};

// Copies every tensor of the file that has a parameter or buffer of its name and shape; convolution weights are turned
// from OIHW. A backbone file must match every backbone tensor, a detector file every tensor: else nothing is loaded and
// std::runtime_error carries the report. `num_batches_tracked` counters are ignored, and a classification head of a
// backbone file. Values that are not finite are an error too: one of them makes every loss so.
WeightReport load_weights(ParameterStore& store, const SafetensorsFile& file, const std::string& file_name,
                          WeightScope scope);

// Whether a file's tensor is one of neck or head.
[[nodiscard]] bool is_beyond_backbone(std::string_view name);
// detector if the file has such a tensor, else backbone.
[[nodiscard]] WeightScope scope_of(const SafetensorsFile& file);

// Every parameter and buffer under its name, convolution weights as OIHW, float32.
void save_weights(ParameterStore& store, SafetensorsFile& file);

// Velocities of the trainable parameters as "optim.momentum.<name>".
void save_velocities(ParameterStore& store, SafetensorsFile& file);
// std::runtime_error if one is missing or of another shape.
void load_velocities(ParameterStore& store, const SafetensorsFile& file, const std::string& file_name);

// What training accumulates beside parameters, such as a loss's statistics over the classes: doubles,
// "train.state.<name>" in files.
struct TrainingState {
  std::string name;
  Tensor* values;
  bool fixed = false;  // made of the configuration and the annotations: a file must hold these very values
};
// States of this prefix only tell about a training and are nothing that it depends on: a file may lack one, or hold it
// in an older version's shape, which then starts at 0, or hold one that nobody wants.
inline constexpr std::string_view kDiagnosticState = "diagnostics.";
void save_state(Context& context, const std::vector<TrainingState>& states, SafetensorsFile& file);
// std::runtime_error if one is missing or of another shape or type, if a fixed one has other values, or if the file has
// a state that nobody wants.
void load_state(Context& context, const std::vector<TrainingState>& states, const SafetensorsFile& file,
                const std::string& file_name);
// The fixed ones alone, for a detector that is not trained any more.
void check_fixed_state(Context& context, const std::vector<TrainingState>& states, const SafetensorsFile& file,
                       const std::string& file_name);

// Whether a file's tensor is of this shape in memory and layout.
[[nodiscard]] bool fits(const FileTensor& file, const Shape& shape, FileLayout layout);
// Copies it there; it must fit.
void from_file_tensor(Context& context, const FileTensor& file, Tensor& tensor, FileLayout layout);
// A tensor of a parameter's layout (value, gradient, velocity) as it stands in files.
[[nodiscard]] FileTensor to_file_tensor(Context& context, const Tensor& tensor, FileLayout layout);

}  // namespace gradlibra
