// SPDX-License-Identifier: MIT
#include "models/heads/make_head.h"

#include <stdexcept>

#include "models/config.h"
#include "models/heads/atss_head.h"
#include "models/heads/fcos_head.h"
#include "models/heads/reppoints_head.h"
#include "models/heads/yolof_head.h"
#include "models/losses/recorded_loss.h"

namespace gradlibra {

namespace {

// What every head takes: the loss of the configuration, recorded if that is wanted.
std::unique_ptr<ClassificationLoss> class_loss(const LossConfig& config, ParameterStore& store,
                                               const ClassInfo& classes) {
  auto loss = make_classification_loss(store.context(), config, classes);
  if (!config.record_gradients) return loss;
  return record_gradients(std::move(loss), store.context(), classes.count(), config.weight);
}

struct Kind {
  const char* name;
  std::unique_ptr<Head> (*make)(const ModelConfig&, ParameterStore&, const Pyramid&, const ClassInfo&);
};

// `section` is where the head's own options are.
template <class OneHead, auto section>
std::unique_ptr<Head> make(const ModelConfig& config, ParameterStore& store, const Pyramid& pyramid,
                           const ClassInfo& classes) {
  return std::make_unique<OneHead>(store, config.*section, pyramid, class_loss(config.loss, store, classes),
                                   classes.count(), parse_normalizer(config.loss.normalizer));
}

constexpr Kind kKinds[] = {
    {"reppoints", make<RepPointsHead, &ModelConfig::head>},
    {"fcos", make<FcosHead, &ModelConfig::fcos>},
    {"atss", make<AtssHead, &ModelConfig::atss>},
    {"yolof", make<YolofHead, &ModelConfig::yolof>},
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
