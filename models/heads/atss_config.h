// SPDX-License-Identifier: MIT
// Options of the ATSS head: section model.atss. Defaults are those of its paper (arXiv:1912.02424) and of MMDetection.
#pragma once

#include <string>

#include "runtime/base/config.h"

namespace gradlibra {

struct AtssConfig {
  int feat_channels = 256;
  int stacked_convs = 4;
  std::string norm = "group";
  int norm_groups = 32;
  double anchor_scale = 8;
  int topk = 9;
  double box_loss_weight = 2, centerness_loss_weight = 1;
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
