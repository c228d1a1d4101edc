// SPDX-License-Identifier: MIT
// Detection metrics on the host in double precision: PASCAL VOC AP, recall, group means, COCO AP.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

struct Detection {
  Box box;  // original image pixels
  int label = 0;
  double score = 0;
};

// detections[i] belong to dataset.images[i]; ties of score: lower image, then position in the list.
using Detections = std::vector<std::vector<Detection>>;

enum class VocConvention {
  mmdet,         // IoU >= threshold, width x2 - x1
  devkit,        // IoU > threshold, width x2 - x1 + 1
  strict,        // IoU > threshold, width x2 - x1
  mmdet_legacy,  // IoU >= threshold, width x2 - x1 + 1
};

struct VocOptions {
  double iou_threshold = 0.5;
  VocConvention convention = VocConvention::mmdet;
  bool float_thresholds =
      false;  // 11-point thresholds as multiples of 0.1 in floating point, as reference programs have them
};

struct ClassResult {
  std::string name;
  int64_t ground_truths = 0;  // not difficult
  int64_t detections = 0;
  std::optional<double> ap, ap_11_point, recall;  // empty if there is no ground truth
};

struct VocResult {
  std::vector<ClassResult> classes;
  std::optional<double> map, map_11_point, mean_recall;  // over classes with ground truth
  // Per group of the dataset, in its order: mean AP and mean final recall of the group's classes with ground truth.
  std::map<std::string, std::optional<double>> group_ap, group_recall;
};

// PASCAL VOC AP by class at one IoU threshold. A detection with a non-finite score or coordinate is
// std::invalid_argument.
[[nodiscard]] VocResult voc_metrics(const Dataset& dataset, const Detections& detections,
                                    const VocOptions& options = {});

struct CocoResult {
  double ap = -1, ap50 = -1, ap75 = -1, ap_small = -1, ap_medium = -1, ap_large = -1;  // -1: no ground truth
  double ar_1 = -1, ar_10 = -1, ar_100 = -1;
};
struct CocoOptions {
  bool annotated_area = false;  // an object's size is its area field even where that is 0, as in pycocotools
};
// The published COCO evaluation: IoU 0.50:0.95, 101 recall points, 100 detections per image and class, crowd regions.
[[nodiscard]] CocoResult coco_metrics(const Dataset& dataset, const Detections& detections,
                                      const CocoOptions& options = {});

// The per-class table with group means, for a person, and everything as JSON.
[[nodiscard]] std::string metrics_table(const Dataset& dataset, const VocResult& voc, const CocoResult& coco);
[[nodiscard]] std::string metrics_json(const Dataset& dataset, const VocResult& voc, const CocoResult& coco);

}  // namespace gradlibra
