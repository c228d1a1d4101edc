// SPDX-License-Identifier: MIT
#include "models/heads/make_head.h"

#include <stdexcept>

#include "models/config.h"
#include "models/heads/reppoints_head.h"

namespace gradlibra {

namespace {

struct Kind {
  const char* name;
  std::unique_ptr<Head> (*make)(const ModelConfig&, ParameterStore&, const Pyramid&, const ClassInfo&);
};

constexpr Kind kKinds[] = {
    {"reppoints",
     [](const ModelConfig& config, ParameterStore& store, const Pyramid& pyramid,
        const ClassInfo& classes) -> std::unique_ptr<Head> {
       return std::make_unique<RepPointsHead>(store, config.head, pyramid, classes.count(),
                                              make_classification_loss(store.context(), config.loss, classes),
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
