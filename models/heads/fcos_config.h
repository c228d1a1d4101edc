// SPDX-License-Identifier: MIT
// Options of the FCOS head: section model.fcos. Defaults are those of MMDetection's base configuration.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/config.h"

namespace gradlibra {

struct FcosConfig {
  int feat_channels = 256;
  int stacked_convs = 4;
  std::string norm = "group";
  int norm_groups = 32;
  bool conv_bias = false;
  bool dcn_on_last_conv = false;  // MMDetection's name
  std::vector<double> level_bounds{64, 128, 256, 512};
  double center_radius = 0;
  bool norm_on_bbox = false;
  bool centerness_on_reg = false;
  std::string box_loss = "iou";
  double box_loss_weight = 1, centerness_loss_weight = 1;
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
