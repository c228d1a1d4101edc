// SPDX-License-Identifier: MIT
#include "engine/experiment.h"

namespace gradlibra {

void TrainConfig::describe(ConfigVisitor& v) {
  v.field("seed", seed, "of initialisation, order of images and augmentation");
  v.field("pretrained", pretrained, "safetensors with a torchvision ResNet or a detector; empty: from scratch");
  v.choice("pretrained_scope", pretrained_scope, {"auto", "backbone"},
           "auto: everything in the file; backbone: of a detector the backbone alone, so that classes, neck and head "
           "may differ");
  v.field("log_every", log_every, "steps between progress lines");
  v.field("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: at the end of every epoch");
  v.field("keep_checkpoints", keep_checkpoints, "older checkpoints are deleted");
  v.field("evaluate_every", evaluate_every, "epochs between evaluations on the validation split; 0: never");
  v.field("class_gradients", class_gradients,
          "log each class's cumulative ratio of positive to negative gradients and the norm of its classifier");
  v.field("max_non_finite", max_non_finite,
          "updates with non-finite gradients that may be skipped in a row; 0: stop at the first");
}

void ExperimentConfig::describe(ConfigVisitor& v) {
  v.section("data", data, "where images and annotations are, and which classes they have");
  v.section("loader", loader, "batches");
  v.section("model", model, "the detector");
  v.section("schedule", schedule, "learning rate");
  v.section("optimizer", optimizer, "SGD");
  v.section("train", train, "the run");
  v.section("runtime", runtime, "speed and precision");
  v.section("synthesize", synthesize, "the synthetic smears that `synthesize` draws");
}

int class_count(const ExperimentConfig& config) {
  return static_cast<int>(config.data.classes.empty() ? cervical_classes().size() : config.data.classes.size());
}

}  // namespace gradlibra
