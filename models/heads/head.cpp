// SPDX-License-Identifier: MIT
#include "models/heads/head.h"

#include "models/losses/classification_loss.h"

namespace gradlibra {

Tensor Head::increments() {
  ClassificationLoss* loss = classifier().loss;
  return loss == nullptr ? Tensor{} : loss->increments();
}

void Head::commit(Context& context, View<const double> summed, View<const float> ok) {
  if (ClassificationLoss* loss = classifier().loss; loss != nullptr) loss->commit(context, summed, ok);
}

std::vector<TrainingState> Head::state() {
  ClassificationLoss* loss = classifier().loss;
  return loss == nullptr ? std::vector<TrainingState>{} : loss->state();
}

}  // namespace gradlibra
