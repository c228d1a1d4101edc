// SPDX-License-Identifier: MIT
// The model's part of a configuration file. Defaults are those of the RepPoints configuration with Grad-Libra.
#pragma once

#include <string>

#include "models/heads/atss_config.h"
#include "models/heads/fcos_config.h"
#include "models/heads/reppoints_config.h"
#include "models/heads/yolof_config.h"
#include "models/losses/bags.h"
#include "models/losses/class_balanced.h"
#include "models/losses/eqlv2.h"
#include "models/losses/focal.h"
#include "models/losses/grad_libra.h"
#include "models/losses/seesaw.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct BackboneConfig {
  int depth = 50;
  int base_channels = 64;          // of the stem; ResNet proper has 64
  std::string style = "pytorch";   // where a bottleneck's stride sits
  int frozen_stages = 1;           // stem and this many stages are constants; -1: everything trains
  bool norm_eval = true;           // batch norm uses its stored statistics in training too
  bool norm_trainable = true;      // scale and shift of batch norm in trained stages
  bool zero_init_residual = true;  // the last norm of each block starts at 0, so that a block starts as its shortcut
  void describe(ConfigVisitor& v);
};

struct NeckConfig {
  int out_channels = 256;
  int start_level = 1;  // first used backbone stage: 1 = C3 (stride 8), 0 = C2 (stride 4)
  int num_outs = 5;
  std::string extra = "on_input";  // source of the first extra level
  bool relu_before_extra = false;
  std::string norm = "none";
  int norm_groups = 32;
  void describe(ConfigVisitor& v);
};

struct LossConfig {
  std::string type = "grad_libra";
  double weight = 1.0;
  std::string normalizer = "num_pos";
  double prior_probability = 0.01;  // of every class at the start
  bool record_gradients = false;    // no key: a trainer sets it (train.class_gradients)
  // Of the losses that have options: keys of the same section.
  GradLibraConfig grad_libra;
  FocalConfig focal;
  // A section for each of the others.
  ClassBalancedConfig class_balanced;
  EqlV2Config eqlv2;
  BagsConfig bags;
  SeesawConfig seesaw;
  void describe(ConfigVisitor& v);
  // All but the classifier stays as it was loaded.
  [[nodiscard]] bool trains_classifier_only() const { return type == "bags" && bags.finetune; }
};

struct TestConfig {
  double score_threshold = 0.05;
  int nms_pre = 1000;  // candidates per level; 0 or -1: all
  double nms_iou = 0.5;
  int max_per_image = 100;        // 0 or -1: all
  bool keep_empty_boxes = false;  // MMDetection 2.x keeps boxes of zero area
  void describe(ConfigVisitor& v);
};

struct ModelConfig {
  std::string detector = "reppoints";
  BackboneConfig backbone;
  NeckConfig neck;
  RepPointsConfig head;
  FcosConfig fcos;
  AtssConfig atss;
  YolofConfig yolof;
  LossConfig loss;
  TestConfig test;
  std::string pixel_order = "rgb";
  std::vector<double> pixel_mean{123.675, 116.28, 103.53}, pixel_std{58.395, 57.12, 57.375};
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
