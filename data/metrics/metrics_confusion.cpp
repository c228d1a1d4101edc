// SPDX-License-Identifier: MIT
// Which class is taken for which: every detection that is sure enough against every truth.
#include <algorithm>
#include <numeric>

#include "data/metrics/box_overlap.h"
#include "data/metrics/metrics.h"
#include "data/metrics/metrics_checks.h"

namespace gradlibra {

namespace {

struct Pair {
  double iou, score;
  size_t truth, detection;
};

// The pairs of one image that overlap enough, the best first.
std::vector<Pair> pairs_of(const std::vector<Object>& objects, const std::vector<Detection>& detections,
                           const ConfusionOptions& options) {
  std::vector<Pair> pairs;
  for (size_t t = 0; t < objects.size(); ++t)
    for (size_t d = 0; d < detections.size(); ++d) {
      if (detections[d].score < options.min_score) continue;
      const double iou = box_overlap(objects[t].box, detections[d].box);
      if (iou >= options.iou_threshold) pairs.push_back({iou, detections[d].score, t, d});
    }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& a, const Pair& b) { return a.iou != b.iou ? a.iou > b.iou : a.score > b.score; });
  return pairs;
}

}  // namespace

ImagePairs pair_objects(const std::vector<Object>& objects, const std::vector<Detection>& detections,
                        const ConfusionOptions& options) {
  ImagePairs result{.truth_of = std::vector(detections.size(), ImagePairs::kNone),
                    .detection_of = std::vector(objects.size(), ImagePairs::kNone)};
  for (size_t d = 0; d < detections.size(); ++d)
    if (!(detections[d].score >= options.min_score)) result.truth_of[d] = ImagePairs::kNotCounted;
  for (size_t t = 0; t < objects.size(); ++t)
    if (!is_target(objects[t])) result.detection_of[t] = ImagePairs::kNotCounted;
  const std::vector<Pair> pairs = pairs_of(objects, detections, options);
  for (const Pair& pair : pairs) {
    if (result.detection_of[pair.truth] != ImagePairs::kNone || result.truth_of[pair.detection] != ImagePairs::kNone)
      continue;
    result.detection_of[pair.truth] = static_cast<int>(pair.detection);
    result.truth_of[pair.detection] = static_cast<int>(pair.truth);
  }
  // What lies on a truth that does not count is neither right nor wrong.
  for (const Pair& pair : pairs)
    if (result.detection_of[pair.truth] == ImagePairs::kNotCounted &&
        result.truth_of[pair.detection] == ImagePairs::kNone)
      result.truth_of[pair.detection] = ImagePairs::kNotCounted;
  return result;
}

ConfusionMatrix confusion_matrix(const Dataset& dataset, const Detections& detections,
                                 const ConfusionOptions& options) {
  check_metrics_input(dataset, detections);
  const size_t background = dataset.classes.size();
  ConfusionMatrix result{.options = options,
                         .counts = std::vector(background + 1, std::vector<int64_t>(background + 1, 0))};
  for (size_t i = 0; i < detections.size(); ++i) {
    const std::vector<Object>& objects = dataset.images[i].objects;
    const ImagePairs pairs = pair_objects(objects, detections[i], options);
    const auto label = [](int value) { return static_cast<size_t>(value); };
    for (size_t t = 0; t < objects.size(); ++t) {
      const int d = pairs.detection_of[t];
      if (d == ImagePairs::kNotCounted) continue;
      ++result.counts[label(objects[t].label)][d < 0 ? background : label(detections[i][label(d)].label)];
    }
    for (size_t d = 0; d < detections[i].size(); ++d)
      if (pairs.truth_of[d] == ImagePairs::kNone) ++result.counts[background][label(detections[i][d].label)];
  }
  return result;
}

}  // namespace gradlibra
