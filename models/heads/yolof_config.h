// SPDX-License-Identifier: MIT
// Options of YOLOF: section model.yolof. Defaults are those of its paper (arXiv:2103.09460) and of MMDetection.
#pragma once

#include <vector>

#include "models/necks/dilated_encoder.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct YolofConfig {
  DilatedEncoderConfig encoder;
  int cls_convs = 2, reg_convs = 4;
  std::vector<double> anchor_scales{1, 2, 4, 8, 16};
  std::vector<double> anchor_ratios{1};
  double centre_clamp = 32;
  int match_times = 4;
  double pos_ignore_iou = 0.15, neg_ignore_iou = 0.7;
  double box_loss_weight = 1;
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
