// SPDX-License-Identifier: MIT
#include "models/heads/yolof_config.h"

namespace gradlibra {

void YolofConfig::describe(ConfigVisitor& v) {
  v.section("encoder", encoder, "the neck: dilated encoder on C5");
  v.field("cls_convs", cls_convs, "3x3 convolutions of the classification branch");
  v.field("reg_convs", reg_convs, "3x3 convolutions of the box branch");
  v.field("anchor_scales", anchor_scales, "sides of the anchors, in strides of the level (32 pixels)");
  v.field("anchor_ratios", anchor_ratios, "height / width of the anchors");
  v.field("centre_clamp", centre_clamp, "pixels by which a box's centre may leave its anchor's, per axis; 0: any");
  v.field("match_times", match_times, "nearest anchors, and nearest predictions, that an object is matched with");
  v.field("pos_ignore_iou", pos_ignore_iou, "a matched anchor that overlaps its object less is ignored");
  v.field("neg_ignore_iou", neg_ignore_iou, "an unmatched anchor whose prediction overlaps an object more is ignored");
  v.field("box_loss_weight", box_loss_weight, "weight of the GIoU loss");
}

}  // namespace gradlibra
