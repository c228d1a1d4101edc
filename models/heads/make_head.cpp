// SPDX-License-Identifier: MIT
#include "models/heads/make_head.h"

#include <stdexcept>

#include "models/config.h"
#include "models/heads/reppoints_head.h"
#include "models/losses/recorded_loss.h"

namespace gradlibra {

namespace {

// What every head takes: the loss of the configuration, recorded if that is wanted.
std::unique_ptr<ClassificationLoss> class_loss(const LossConfig& config, ParameterStore& store,
                                               const ClassInfo& classes) {
  auto loss = make_classification_loss(config, classes);
  if (!config.record_gradients) return loss;
  return record_gradients(std::move(loss), store.context(), classes.count(), config.weight);
}

struct Kind {
  const char* name;
  std::unique_ptr<Head> (*make)(const ModelConfig&, ParameterStore&, const Pyramid&, const ClassInfo&);
};

constexpr Kind kKinds[] = {
    {"reppoints",
     [](const ModelConfig& config, ParameterStore& store, const Pyramid& pyramid,
        const ClassInfo& classes) -> std::unique_ptr<Head> {
       return std::make_unique<RepPointsHead>(store, config.head, pyramid, classes.count(),
                                              class_loss(config.loss, store, classes),
                                              parse_normalizer(config.loss.normalizer));
     }},
};

}  // namespace

std::vector<std::string> detector_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

std::unique_ptr<Head> make_head(const ModelConfig& config, ParameterStore& store, const Pyramid& pyramid,
                                const ClassInfo& classes) {
  std::string names;
  for (const Kind& kind : kKinds) {
    if (config.detector == kind.name) return kind.make(config, store, pyramid, classes);
    names += (names.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw std::invalid_argument("model.detector: '" + config.detector + "' is not one of " + names);
}

}  // namespace gradlibra
