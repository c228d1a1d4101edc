// SPDX-License-Identifier: MIT
// PASCAL VOC average precision with the conventions that programs differ in (Everingham et al., IJCV 2010; the devkit;
// mmdet mean_ap).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "data/metrics/box_overlap.h"
#include "data/metrics/metrics.h"
#include "data/metrics/metrics_checks.h"

namespace gradlibra {
namespace {

// True and false positives so far, after each detection that counts, and its score.
struct Curve {
  std::vector<int64_t> tp, fp;
  std::vector<double> score;
};

struct Ranked {
  double score;
  size_t image, index;
};

// Ground truth of one class in one image, in the order of the annotation.
struct Target {
  Box box;
  bool ignored;  // difficult or crowd
  bool matched;
};

Curve curve_of(const std::vector<VocMatch>& matches) {
  Curve curve;
  int64_t tp = 0, fp = 0;
  for (const VocMatch& match : matches) {
    ++(match.right ? tp : fp);
    curve.tp.push_back(tp);
    curve.fp.push_back(fp);
    curve.score.push_back(match.score);
  }
  return curve;
}

// Area under the precision envelope: every new recall step 1/n has the best precision at that recall or a later one.
double area_ap(const Curve& curve, int64_t n) {
  double sum = 0, envelope = 0;
  for (size_t i = curve.tp.size(); i-- > 0;) {
    envelope = std::max(envelope, static_cast<double>(curve.tp[i]) / static_cast<double>(curve.tp[i] + curve.fp[i]));
    if (curve.tp[i] > (i > 0 ? curve.tp[i - 1] : 0)) sum += envelope;
  }
  return sum / static_cast<double>(n);
}

PrecisionRecall precision_recall(const Curve& curve, int64_t n) {
  std::vector<double> envelope(curve.tp.size());
  for (size_t i = curve.tp.size(); i-- > 0;) {
    const double precision = static_cast<double>(curve.tp[i]) / static_cast<double>(curve.tp[i] + curve.fp[i]);
    envelope[i] = i + 1 < envelope.size() ? std::max(precision, envelope[i + 1]) : precision;
  }
  PrecisionRecall result;
  size_t at = 0;
  for (int64_t k = 0; k < PrecisionRecall::kPoints; ++k) {
    while (at < envelope.size() && (PrecisionRecall::kPoints - 1) * curve.tp[at] < k * n) ++at;
    result.precision.push_back(at < envelope.size() ? envelope[at] : 0);
    if (at < envelope.size()) result.score.push_back(curve.score[at]);
  }
  return result;
}

double eleven_point_ap(const Curve& curve, int64_t n, bool float_thresholds) {
  double sum = 0;
  for (int m = 0; m <= 10; ++m) {
    double best = 0;
    for (size_t i = 0; i < curve.tp.size(); ++i) {
      const bool reached = float_thresholds ? static_cast<double>(curve.tp[i]) / static_cast<double>(n) >= m * 0.1
                                            : 10 * curve.tp[i] >= m * n;
      if (reached)
        best = std::max(best, static_cast<double>(curve.tp[i]) / static_cast<double>(curve.tp[i] + curve.fp[i]));
    }
    sum += best;
  }
  return sum / 11;
}

// Of all detections in several classes' curves.
Calibration calibrate(const std::vector<const Curve*>& curves) {
  Calibration result;
  std::array<int64_t, 10> right{};
  int64_t all = 0;
  for (const Curve* curve : curves)
    for (size_t i = 0; i < curve->tp.size(); ++i) {
      const auto bin = static_cast<size_t>(std::clamp(curve->score[i] * 10, 0.0, 9.0));
      CalibrationBin& into = result.bins[bin];
      ++into.detections;
      into.mean_score += curve->score[i];
      right[bin] += curve->tp[i] - (i > 0 ? curve->tp[i - 1] : 0);
      ++all;
    }
  for (size_t b = 0; b < result.bins.size(); ++b) {
    CalibrationBin& bin = result.bins[b];
    if (bin.detections == 0) continue;
    const auto count = static_cast<double>(bin.detections);
    bin.mean_score /= count;
    bin.precision = static_cast<double>(right[b]) / count;
    result.error += std::abs(bin.mean_score - bin.precision) * count / static_cast<double>(all);
  }
  return result;
}

// Mean over the classes that have a value.
template <class Value>
std::optional<double> mean(const std::vector<const ClassResult*>& classes, const Value& value) {
  double sum = 0;
  int count = 0;
  for (const ClassResult* result : classes) {
    if (const std::optional<double>& number = value(*result)) {
      sum += *number;
      ++count;
    }
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

}  // namespace

void check_metrics_input(const Dataset& dataset, const Detections& detections) {
  const auto refuse = [](size_t image, const std::string& what, size_t index, const std::string& why) {
    throw std::invalid_argument("metrics: image " + std::to_string(image) + ", " + what + " " + std::to_string(index) +
                                ": " + why);
  };
  const auto known = [&](int label) { return label >= 0 && static_cast<size_t>(label) < dataset.classes.size(); };
  if (detections.size() != dataset.images.size()) {
    throw std::invalid_argument("metrics: detections of " + std::to_string(detections.size()) +
                                " images, but the dataset has " + std::to_string(dataset.images.size()));
  }
  for (size_t image = 0; image < detections.size(); ++image) {
    for (size_t i = 0; i < detections[image].size(); ++i) {
      const Detection& detection = detections[image][i];
      const Box& box = detection.box;
      if (!known(detection.label))
        refuse(image, "detection", i, "class " + std::to_string(detection.label) + " does not exist");
      if (!std::isfinite(detection.score)) refuse(image, "detection", i, "the score is not finite");
      if (!(std::isfinite(box.x1) && std::isfinite(box.y1) && std::isfinite(box.x2) && std::isfinite(box.y2))) {
        refuse(image, "detection", i, "a coordinate is not finite");
      }
    }
    const std::vector<Object>& objects = dataset.images[image].objects;
    for (size_t i = 0; i < objects.size(); ++i) {
      if (!known(objects[i].label))
        refuse(image, "object", i, "class " + std::to_string(objects[i].label) + " does not exist");
    }
  }
}

std::vector<VocMatch> match_class(int label, const Dataset& dataset, const Detections& detections,
                                  const VocOptions& options) {
  std::vector<Ranked> ranking;
  std::vector<std::vector<Target>> targets(dataset.images.size());
  for (size_t image = 0; image < detections.size(); ++image) {
    for (size_t i = 0; i < detections[image].size(); ++i) {
      if (detections[image][i].label == label) ranking.push_back({detections[image][i].score, image, i});
    }
    for (const Object& object : dataset.images[image].objects) {
      if (object.label == label) targets[image].push_back({object.box, !is_target(object), false});
    }
  }
  std::stable_sort(ranking.begin(), ranking.end(), [](const Ranked& a, const Ranked& b) { return a.score > b.score; });

  const bool plus_one =
      options.convention == VocConvention::devkit || options.convention == VocConvention::mmdet_legacy;
  const bool strictly = options.convention == VocConvention::devkit || options.convention == VocConvention::strict;
  std::vector<VocMatch> matches;
  for (const Ranked& ranked : ranking) {
    const Box& box = detections[ranked.image][ranked.index].box;
    Target* best = nullptr;  // the largest overlap, ignored and matched ones included: there is no second choice
    double best_iou = -1;
    for (Target& target : targets[ranked.image]) {
      const double iou = box_overlap(box, target.box, plus_one ? 1.0 : 0.0);
      if (iou > best_iou) {
        best_iou = iou;
        best = &target;
      }
    }
    const bool overlaps =
        best != nullptr && (strictly ? best_iou > options.iou_threshold : best_iou >= options.iou_threshold);
    if (overlaps && best->ignored) continue;
    const bool right = overlaps && !best->matched;
    if (right) best->matched = true;
    matches.push_back({ranked.score, ranked.image, right});
  }
  return matches;
}

VocResult voc_metrics(const Dataset& dataset, const Detections& detections, const VocOptions& options) {
  check_metrics_input(dataset, detections);
  VocResult result;
  std::vector<Curve> curves(dataset.classes.size());  // empty for a class without ground truth
  for (size_t label = 0; label < dataset.classes.size(); ++label) {
    ClassResult& one = result.classes.emplace_back();
    one.name = dataset.classes[label];
    for (size_t image = 0; image < dataset.images.size(); ++image) {
      for (const Object& object : dataset.images[image].objects) {
        one.ground_truths += object.label == static_cast<int>(label) && is_target(object);
      }
      for (const Detection& detection : detections[image]) one.detections += detection.label == static_cast<int>(label);
    }
    if (one.ground_truths == 0) continue;
    const Curve& curve = curves[label] = curve_of(match_class(static_cast<int>(label), dataset, detections, options));
    one.ap = area_ap(curve, one.ground_truths);
    one.ap_11_point = eleven_point_ap(curve, one.ground_truths, options.float_thresholds);
    one.curve = precision_recall(curve, one.ground_truths);
    one.recall = static_cast<double>(curve.tp.empty() ? 0 : curve.tp.back()) / static_cast<double>(one.ground_truths);
  }

  result.confusion = confusion_matrix(dataset, detections);
  const auto ap = [](const ClassResult& one) { return one.ap; };
  const auto recall = [](const ClassResult& one) { return one.recall; };
  std::vector<const ClassResult*> all;
  for (const ClassResult& one : result.classes) all.push_back(&one);
  result.map = mean(all, ap);
  result.map_11_point = mean(all, [](const ClassResult& one) { return one.ap_11_point; });
  result.mean_recall = mean(all, recall);
  std::vector<const Curve*> all_curves;
  all_curves.reserve(curves.size());
  for (const Curve& curve : curves) all_curves.push_back(&curve);
  result.calibration = calibrate(all_curves);
  for (const auto& [group, names] : dataset.groups) {
    std::vector<const ClassResult*> members;
    std::vector<const Curve*> member_curves;
    for (const std::string& name : names) {
      const auto found = std::find(dataset.classes.begin(), dataset.classes.end(), name);
      if (found == dataset.classes.end())
        throw std::invalid_argument("metrics: group '" + group + "' has '" + name + "', which is no class");
      const auto label = static_cast<size_t>(found - dataset.classes.begin());
      members.push_back(&result.classes[label]);
      member_curves.push_back(&curves[label]);
    }
    result.group_calibration[group] = calibrate(member_curves);
    result.group_ap[group] = mean(members, ap);
    result.group_recall[group] = mean(members, recall);
  }
  return result;
}

}  // namespace gradlibra
