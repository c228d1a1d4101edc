// SPDX-License-Identifier: MIT
// A classification loss that also records, over a training, how hard it pulled at each class: the ratio of positive to
// negative gradients (arXiv:2208.03779, sec. 3 and fig. 3a), by kernels/losses/class_gradients.h. Works with any loss
// and any head, changes no bit of what they compute.
#pragma once

#include <memory>

#include "models/losses/classification_loss.h"

namespace gradlibra {

class Context;

// `loss` with what it gave recorded. loss_weight: the factor model.loss.weight that it multiplied its gradients by.
// Its increments are those of `loss` and behind them the sums of the step; its state is that of `loss` and
// "diagnostics.class_gradients".
[[nodiscard]] std::unique_ptr<ClassificationLoss> record_gradients(std::unique_ptr<ClassificationLoss> loss,
                                                                   Context& context, int classes, double loss_weight);

}  // namespace gradlibra
