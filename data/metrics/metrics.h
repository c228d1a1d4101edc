// SPDX-License-Identifier: MIT
// Detection metrics on the host in double precision: PASCAL VOC AP, recall, group means, curves, COCO AP and AR, which
// class is taken for which.
#pragma once

#include <array>
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

// Precision at recall 0, 0.01 .. 1: the best at that recall or a higher one, 0 where it is not reached. score[k]: the
// lowest score that has to be let through for it, while it is reached.
struct PrecisionRecall {
  static constexpr int kPoints = 101;
  std::vector<double> precision, score;
};

struct ClassResult {
  std::string name;
  int64_t ground_truths = 0;  // not difficult
  int64_t detections = 0;
  std::optional<double> ap, ap_11_point, recall;  // empty if there is no ground truth
  PrecisionRecall curve;                          // empty if there is no ground truth
};

struct ConfusionOptions {
  double min_score = 0.3;  // detections below do not count
  double iou_threshold = 0.5;
};
struct ConfusionMatrix {
  ConfusionOptions options;
  // counts[truth][detected], (C + 1) x (C + 1); row C: detections where nothing is, column C: truths that nothing
  // found.
  std::vector<std::vector<int64_t>> counts;
};

// How far scores are probabilities: detections in ten equal bins of their score, and the share of each that is right
// (as for AP: the first on a truth of its class, at the IoU threshold).
struct CalibrationBin {
  int64_t detections = 0;
  double mean_score = 0, precision = 0;  // 0 without detections
};
struct Calibration {
  std::array<CalibrationBin, 10> bins;
  double error = 0;  // mean |mean_score - precision| over detections: the expected calibration error
};

struct VocResult {
  std::vector<ClassResult> classes;
  std::optional<double> map, map_11_point, mean_recall;  // over classes with ground truth
  // Per group of the dataset, in its order: mean AP and mean final recall of the group's classes with ground truth.
  std::map<std::string, std::optional<double>> group_ap, group_recall;
  ConfusionMatrix confusion;
  Calibration calibration;  // of the classes with ground truth
  std::map<std::string, Calibration> group_calibration;
};

// PASCAL VOC AP by class at one IoU threshold. A detection with a non-finite score or coordinate is
// std::invalid_argument.
[[nodiscard]] VocResult voc_metrics(const Dataset& dataset, const Detections& detections,
                                    const VocOptions& options = {});

struct CocoResult {
  double ap = -1, ap50 = -1, ap75 = -1, ap_small = -1, ap_medium = -1, ap_large = -1;  // -1: no ground truth
  double ar_1 = -1, ar_10 = -1, ar_100 = -1, ar_small = -1, ar_medium = -1, ar_large = -1;
};
struct CocoOptions {
  bool annotated_area = false;  // an object's size is its area field even where that is 0, as in pycocotools
};
// What the literature calls the groups of a long-tailed set: f, c and r of frequent, common and rare, as in AP_f;
// others keep their name.
[[nodiscard]] std::string short_group_name(const std::string& group);

// The published COCO evaluation: IoU 0.50:0.95, 101 recall points, 100 detections per image and class, crowd regions.
[[nodiscard]] CocoResult coco_metrics(const Dataset& dataset, const Detections& detections,
                                      const CocoOptions& options = {});

// In each image truths and detections of any class are paired by overlap, the largest first (then the higher score),
// one to one. A difficult truth or a crowd counts nowhere, nor does a detection on it that has no other truth.
struct ImagePairs {
  static constexpr int kNone = -1;          // nothing lies there
  static constexpr int kNotCounted = -2;    // a score below the least; on a truth that does not count, or such a truth
  std::vector<int> truth_of, detection_of;  // of each detection the index of its truth, and the other way round
};
[[nodiscard]] ImagePairs pair_objects(const std::vector<Object>& objects, const std::vector<Detection>& detections,
                                      const ConfusionOptions& options = {});
[[nodiscard]] ConfusionMatrix confusion_matrix(const Dataset& dataset, const Detections& detections,
                                               const ConfusionOptions& options = {});

// The per-class table with group means, for a person, and everything as JSON.
[[nodiscard]] std::string metrics_table(const Dataset& dataset, const VocResult& voc, const CocoResult& coco);
[[nodiscard]] std::string metrics_json(const Dataset& dataset, const VocResult& voc, const CocoResult& coco);

}  // namespace gradlibra
