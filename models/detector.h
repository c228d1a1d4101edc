// SPDX-License-Identifier: MIT
// The detector that joins backbone, neck and head, from 8-bit images to losses or detections.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/backbones/resnet.h"
#include "models/config.h"
#include "models/heads/reppoints_head.h"
#include "models/necks/fpn.h"
#include "models/targets.h"
#include "runtime/parameters.h"

namespace gradlibra {

// Images of a batch on the device: kernels/image_normalize.h.
struct ImageBatch {
  Tensor pixels;        // (N, H, W, 3) uint8
  Tensor orientations;  // (N) int32
  Tensor sizes;         // (N, 2) int32
};

class Detector {
 public:
  // Parameters are 0 until parameters().initialize(seed) or weights are loaded. std::invalid_argument names the configuration key that
  // does not fit.
  Detector(Context& context, const ModelConfig& config, int classes);

  // Network input (N, H, W, 3): normalised, flipped, padded. H and W must be multiples of 32.
  [[nodiscard]] Var normalize(Tape& tape, const ImageBatch& images) const;

  [[nodiscard]] RepPointsHead::Outputs forward(Tape& tape, Var input) const;

  // Forward, losses; then tape.backward() gives the gradients of the parameters.
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, Var input, const GroundTruth& truth, Communicator& communicator,
                                           RepPointsHead::Targets* inspect = nullptr) const;

  // sizes (N, 2): height and width of each image's content in the input, on the host.
  [[nodiscard]] std::vector<std::vector<ScoredBox>> detect(Tape& tape, Var input, std::span<const int32_t> sizes) const;

  // What its losses accumulate, for checkpoints.
  [[nodiscard]] std::vector<TrainingState> state() const { return head_->state(); }
  [[nodiscard]] ParameterStore& parameters() { return *parameters_; }
  [[nodiscard]] const ParameterStore& parameters() const { return *parameters_; }
  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] int classes() const { return head_->classes(); }
  [[nodiscard]] Context& context() const { return context_; }

  // Parameters and multiply-adds (for one H x W image) of a part, its name being a prefix of parameter names.
  struct PartCost {
    std::string part;
    int64_t parameters = 0, multiply_adds = 0;
  };
  [[nodiscard]] std::vector<PartCost> costs(int64_t height, int64_t width) const;

 private:
  Context& context_;
  ModelConfig config_;
  std::unique_ptr<ParameterStore> parameters_;
  std::unique_ptr<ResNet> backbone_;
  std::unique_ptr<Fpn> neck_;
  std::unique_ptr<RepPointsHead> head_;
};

}  // namespace gradlibra
