// SPDX-License-Identifier: MIT
// Options of the RepPoints head: section model.head, which was there before other heads were. Defaults are those of
// MMDetection's base configuration.
#pragma once

#include <string>

#include "runtime/base/config.h"

namespace gradlibra {

struct RepPointsConfig {
  int feat_channels = 256;
  int point_channels = 256;
  int stacked_convs = 3;
  int num_points = 9;
  std::string norm = "none";
  int norm_groups = 32;
  std::string transform = "moment";
  bool use_grid_points = false;  // boxes in place of free point sets
  bool center_init = true;       // free point sets start at the cell's point, else on a grid around it
  double gradient_mul = 0.1;     // of the classification and refinement branches into the initial points
  double moment_mul = 0.01;      // of the gradient of the moment transform's exponents
  double point_base_scale = 4;
  std::string deform_init = "uniform";
  double init_loss_weight = 0.5, refine_loss_weight = 1.0;
  double smooth_l1_beta = 0.11;
  std::string init_assigner = "point";
  int init_pos_num = 1;
  double refine_pos_iou = 0.5, refine_neg_iou = 0.4, refine_min_pos_iou = 1e-6;
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
