// SPDX-License-Identifier: MIT
// The detector that joins backbone, neck and head, from 8-bit images to losses or detections.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/backbones/resnet.h"
#include "models/classes.h"
#include "models/config.h"
#include "models/heads/head.h"
#include "models/necks/fpn.h"
#include "models/targets.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

// Images of a batch on the device: kernels/image_normalize.h.
struct ImageBatch {
  Tensor pixels;        // (N, H, W, 3) uint8
  Tensor orientations;  // (N) int32
  Tensor sizes;         // (N, 2) int32
};

class Detector {
 public:
  // Adds a head's parameters to the store.
  using HeadMaker = std::function<std::unique_ptr<Head>(ParameterStore& store, const Pyramid& pyramid)>;

  // Parameters are 0 until parameters().initialize(seed) or weights are loaded. std::invalid_argument names the
  // configuration key that does not fit.
  Detector(Context& context, const ModelConfig& config, ClassInfo classes);
  Detector(Context& context, const ModelConfig& config, int classes)
      : Detector(context, config, unknown_classes(classes)) {}
  // With another head than that of model.detector.
  Detector(Context& context, const ModelConfig& config, ClassInfo classes, const HeadMaker& make_head);

  // Network input (N, H, W, 3): normalised, flipped, padded. H and W must be multiples of 32.
  [[nodiscard]] Var normalize(Tape& tape, const ImageBatch& images) const;

  // Forward, losses; then tape.backward() gives the gradients of the parameters.
  [[nodiscard]] std::vector<LossTerm> loss(Tape& tape, Var input, const GroundTruth& truth,
                                           Communicator& communicator) const;

  // Boxes and scores of every cell.
  [[nodiscard]] Predictions predict(Tape& tape, Var input) const;

  // sizes (N, 2): height and width of each image's content in the input, on the host.
  [[nodiscard]] std::vector<std::vector<ScoredBox>> detect(Tape& tape, Var input, std::span<const int32_t> sizes) const;

  // What its losses accumulate in a step, and over a training for checkpoints: models/heads/head.h.
  [[nodiscard]] Tensor increments() { return head_->increments(); }
  void commit(View<const double> summed, View<const float> ok) { head_->commit(context_, summed, ok); }
  [[nodiscard]] std::vector<TrainingState> state() const { return head_->state(); }
  [[nodiscard]] Classifier classifier() const { return head_->classifier(); }
  [[nodiscard]] ParameterStore& parameters() { return *parameters_; }
  [[nodiscard]] const ParameterStore& parameters() const { return *parameters_; }
  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const ClassInfo& classes() const { return classes_; }
  [[nodiscard]] Context& context() const { return context_; }

  // Parameters and multiply-adds (for one H x W image) of a part.
  struct PartCost {
    std::string part;
    int64_t parameters = 0, multiply_adds = 0;
    bool trainable = false;    // some of its parameters are
    bool reads_image = false;  // nothing flows back into its input
    bool sampling = false;     // of a deformable convolution: listed, but as in the literature no part of a total
  };
  [[nodiscard]] std::vector<PartCost> costs(int64_t height, int64_t width) const;

 private:
  [[nodiscard]] std::vector<Var> pyramid(Tape& tape, Var input) const;

  Context& context_;
  ModelConfig config_;
  ClassInfo classes_;
  std::unique_ptr<ParameterStore> parameters_;
  std::unique_ptr<ResNet> backbone_;
  std::unique_ptr<Fpn> neck_;
  std::unique_ptr<Head> head_;
  ParameterStore::Range head_parameters_;
};

}  // namespace gradlibra
