// SPDX-License-Identifier: MIT
#include "models/config.h"

#include "models/heads/make_head.h"
#include "models/losses/classification_loss.h"

namespace gradlibra {

void BackboneConfig::describe(ConfigVisitor& v) {
  v.field("depth", depth, "ResNet depth: 18, 34, 50 or 101", between(18, 101));
  v.field("base_channels", base_channels, "channels of the stem; 64 is ResNet, 32 half its width", between(1, 4096));
  v.choice("style", style, {"pytorch", "caffe"},
           "stride of a bottleneck on its 3x3 (pytorch) or first 1x1 convolution (caffe)");
  v.field("frozen_stages", frozen_stages, "the stem and this many stages stay as loaded; -1 trains everything",
          between(-1, 4));
  v.field("norm_eval", norm_eval, "batch norm uses stored statistics while training (right with pretrained weights)");
  v.field("norm_trainable", norm_trainable, "train batch norm's scale and shift in the stages that train");
  v.field("zero_init_residual", zero_init_residual, "start the last norm of each residual block at 0");
}

void NeckConfig::describe(ConfigVisitor& v) {
  v.field("out_channels", out_channels, "channels of every pyramid level", between(1, 65536));
  v.field("start_level", start_level, "first backbone stage used: 1 = stride 8 (C3), 0 = stride 4 (C2)", between(0, 3));
  v.field("num_outs", num_outs, "pyramid levels", between(1, 16));
  v.choice("extra", extra, {"on_input", "on_lateral", "on_output", "max_pool"},
           "what the levels above the backbone are made from");
  v.field("relu_before_extra", relu_before_extra, "ReLU between extra levels");
  v.choice("norm", norm, {"none", "group"}, "normalisation after each convolution");
  v.field("norm_groups", norm_groups, "groups of group norm; must divide out_channels", between(1, 65536));
}

void LossConfig::describe(ConfigVisitor& v) {
  v.choice("type", type, loss_kinds(), "classification loss");
  v.field("weight", weight, "factor on the classification loss", at_least(0));
  v.choice("normalizer", normalizer, {"num_pos", "num_valid", "num_pos_image_min1", "pos_plus_neg"},
           "what the losses are divided by");
  v.field("prior_probability", prior_probability, "score of every class before training", between(1e-6, 0.999999));
  grad_libra.describe(v);
  focal.describe(v);
  v.section("class_balanced", class_balanced, "class-balanced loss");
  v.section("eqlv2", eqlv2, "equalization loss v2");
  v.section("bags", bags, "balanced group softmax");
  v.section("seesaw", seesaw, "seesaw loss");
}

void TestConfig::describe(ConfigVisitor& v) {
  v.field("score_threshold", score_threshold, "detections below are dropped", between(0, 1));
  v.field("nms_pre", nms_pre, "best candidates kept per level before suppression; 0 or -1: all", at_least(-1));
  v.field("nms_iou", nms_iou, "overlap above which the weaker of two boxes of a class is dropped", between(0, 1));
  v.field("max_per_image", max_per_image, "detections kept per image, the surest first; 0 or -1: all", at_least(-1));
  v.field("keep_empty_boxes", keep_empty_boxes, "keep boxes of zero area, as MMDetection 2.x does");
}

void ModelConfig::describe(ConfigVisitor& v) {
  v.choice("detector", detector, detector_kinds(), "kind of detector");
  v.section("backbone", backbone, "ResNet");
  v.section("neck", neck, "feature pyramid");
  v.section("head", head, "RepPoints head");
  v.section("fcos", fcos, "FCOS head");
  v.section("atss", atss, "ATSS head");
  v.section("yolof", yolof, "YOLOF: neck and head");
  v.section("loss", loss, "classification loss");
  v.section("test", test, "selection of detections");
  v.choice("pixel_order", pixel_order, {"rgb", "bgr"}, "channel order the weights were trained with");
  v.field("pixel_mean", pixel_mean, "subtracted from pixels, in pixel_order", any_number());
  v.field("pixel_std", pixel_std, "pixels are divided by it, in pixel_order", above(0));
}

}  // namespace gradlibra
