// SPDX-License-Identifier: MIT
// Balanced group softmax (arXiv:2006.10408), model.loss.type=bags: classes of similar frequency share a softmax.
// Formulas: kernels/losses/bags.h, the drawing of rows: kernels/losses/bags_sample.h.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/classes.h"
#include "runtime/base/config.h"

namespace gradlibra {

class ClassificationLoss;
class Context;
struct LossConfig;

// model.loss.bags
struct BagsConfig {
  std::vector<int> edges{5000, 10000};
  double beta = 8;
  int seed = 0;
  std::string foreground_normalizer = "shared";
  bool finetune = false;  // the second stage of the published training
  void describe(ConfigVisitor& v);
};

// Classes of each group, the rarest group first: a class with n instances is in the interval [edge, next edge) that
// holds n. Groups without classes are left out.
[[nodiscard]] std::vector<std::vector<int>> bags_groups(std::span<const int64_t> instances, std::span<const int> edges);

// std::invalid_argument names the key for values out of range. Without the classes' instances only shapes can be had of
// it: loss() and scores() throw.
[[nodiscard]] std::unique_ptr<ClassificationLoss> make_bags(Context& context, const LossConfig& config,
                                                            const ClassInfo& classes);

}  // namespace gradlibra
