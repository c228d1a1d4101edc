// SPDX-License-Identifier: MIT
// What a training tells of each class (arXiv:2208.03779, fig. 3): how much it was pulled up against how much it was
// pushed down, and how long its weights have become.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/train_step.h"

namespace gradlibra {

struct ClassDiagnostics {
  // r_c = S+_c / (S-_c + 1e-10), S the sums over all steps so far of the means over all rows of a step: of |dl/dz| of
  // the loss that is trained, and of |p - y|, which is |dl/dz| of cross-entropy.
  std::vector<double> loss_ratio, ce_ratio;
  // h_c, how much of S+_c, and of S-_c, came from rows that are hard, on the wrong side: |p - y| > 1/2.
  std::vector<double> hard_positive, hard_negative;
  std::vector<double> weight_norm;  // n_c, the norm of the classifier's weights of class c, over all anchors
};

// std::nullopt if nothing was recorded.
[[nodiscard]] std::optional<ClassDiagnostics> class_diagnostics(const TrainStep::Result& result,
                                                                const Classifier& classifier, int classes);

// Adds to a line of the log: gradient_ratio (of the loss), gradient_ratio_ce, gradient_hard_positive,
// gradient_hard_negative, weight_norm (divided by the largest) and weight_norm_raw, each with a value for every class
// by its name.
void add_to_log(const ClassDiagnostics& diagnostics, const std::vector<std::string>& classes,
                nlohmann::ordered_json& line);

}  // namespace gradlibra
