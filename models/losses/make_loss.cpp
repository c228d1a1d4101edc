// SPDX-License-Identifier: MIT
// The one place that lists the classification losses.
#include <stdexcept>

#include "models/config.h"
#include "models/losses/bags.h"
#include "models/losses/class_balanced.h"
#include "models/losses/classification_loss.h"
#include "models/losses/cross_entropy.h"
#include "models/losses/eqlv2.h"
#include "models/losses/focal.h"
#include "models/losses/grad_libra.h"
#include "models/losses/seesaw.h"

namespace gradlibra {

namespace {

struct Kind {
  const char* name;
  std::unique_ptr<ClassificationLoss> (*make)(Context&, const LossConfig&, const ClassInfo&);
};

constexpr Kind kKinds[] = {{"cross_entropy", make_cross_entropy},
                           {"focal", make_focal},
                           {"class_balanced", make_class_balanced},
                           {"eqlv2", make_eqlv2},
                           {"bags", make_bags},
                           {"seesaw", make_seesaw},
                           {"grad_libra", make_grad_libra}};

}  // namespace

std::vector<std::string> loss_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

std::unique_ptr<ClassificationLoss> make_classification_loss(Context& context, const LossConfig& config,
                                                             const ClassInfo& classes) {
  if (!(config.prior_probability > 0 && config.prior_probability < 1))
    throw std::invalid_argument("model.loss.prior_probability must lie between 0 and 1");
  for (const Kind& kind : kKinds)
    if (config.type == kind.name) return kind.make(context, config, classes);
  throw std::invalid_argument("model.loss.type: unknown loss '" + config.type + "'");
}

void require_instances(bool known, const char* kind) {
  if (!known)
    throw std::invalid_argument(std::string("model.loss.type=") + kind +
                                " needs the number of boxes of each class in the training split, which is not known "
                                "here: train reads it from the annotations, a checkpoint of such a training holds it");
}

}  // namespace gradlibra
