// SPDX-License-Identifier: MIT
#include "engine/experiment_config.h"

namespace gradlibra {

void TrainConfig::describe(ConfigVisitor& v) {
  v.field("seed", seed, "of initialisation, order of images and augmentation", at_least(0));
  v.field("pretrained", pretrained, "safetensors with a torchvision ResNet or a detector; empty: from scratch");
  v.choice("pretrained_scope", pretrained_scope, {"auto", "backbone", "no_classifier"},
           "auto: everything in the file; backbone: of a detector the backbone alone, so that classes, neck and head "
           "may differ; no_classifier: of a detector all but its classifier, so that classes may differ");
  v.field("log_every", log_every, "steps between progress lines", at_least(0));
  v.field("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: at the end of every epoch", at_least(0));
  v.field("keep_checkpoints", keep_checkpoints, "so many of the newest are kept; 0 or -1: all", at_least(-1));
  v.field("evaluate_every", evaluate_every,
          "epochs between validations, the best of which goes to checkpoints/best; 0: never; -1: every epoch where the "
          "data has a validation split",
          at_least(-1));
  v.field("patience", patience, "training ends after so many validations without a better mAP; 0: never", at_least(0));
  v.field("average_decay", average_decay,
          "moving average of the weights, average = decay * average + (1 - decay) * weight per step, as in 0.9998: "
          "validation, evaluate and detect use it; 0: none",
          between(0, 0.9999999));
  v.field("class_gradients", class_gradients,
          "log each class's cumulative ratio of positive to negative gradients and the norm of its classifier");
  v.field("max_non_finite", max_non_finite,
          "updates with non-finite gradients that may be skipped in a row; 0: stop at the first", at_least(0));
}

void ExperimentConfig::describe(ConfigVisitor& v) {
  v.section("data", data, "where images and annotations are, and which classes they have");
  v.section("loader", loader, "batches");
  v.section("model", model, "the detector");
  v.section("schedule", schedule, "learning rate");
  v.section("optimizer", optimizer, "SGD");
  v.section("train", train, "the run");
  v.section("runtime", runtime, "speed and precision");
  v.section("distributed", distributed, "several ranks");
  v.section("synthesize", synthesize, "the synthetic smears that `synthesize` draws");
}

int class_count(const ExperimentConfig& config) {
  return static_cast<int>(config.data.classes.empty() ? cervical_classes().size() : config.data.classes.size());
}

}  // namespace gradlibra
