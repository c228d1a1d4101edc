// SPDX-License-Identifier: MIT
#include "engine/builder.h"

namespace gradlibra {

namespace {

std::unique_ptr<Detector> make(Context& context, const ExperimentConfig& config, const ModelConfig& model,
                               ClassInfo classes, bool seeded) {
  context.configure(config.runtime);
  auto detector = std::make_unique<Detector>(context, model, std::move(classes));
  if (seeded) detector->parameters().initialize(static_cast<uint64_t>(config.train.seed));
  return detector;
}

}  // namespace

Training build_training(Context& context, const ExperimentConfig& config, ClassInfo classes, const LoadValues& load) {
  Training training;
  ModelConfig model = config.model;
  model.loss.record_gradients = config.train.class_gradients;
  training.detector = make(context, config, model, std::move(classes), /*seeded=*/true);
  if (load) load(*training.detector);
  training.optimizer = std::make_unique<Optimizer>(training.detector->parameters(), config.optimizer);
  if (config.train.average_decay > 0)
    training.average = std::make_unique<WeightAverage>(training.detector->parameters(), config.train.average_decay);
  return training;
}

std::unique_ptr<Detector> build_detector(Context& context, const ExperimentConfig& config, ClassInfo classes,
                                         const LoadValues& load) {
  std::unique_ptr<Detector> detector = make(context, config, config.model, std::move(classes), /*seeded=*/!load);
  if (load) load(*detector);
  return detector;
}

}  // namespace gradlibra
