// SPDX-License-Identifier: MIT
// COCO average precision and recall, following the rules of the published evaluator (cocodataset.org, "Detection
// Evaluation").
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "data/metrics/metrics.h"
#include "data/metrics/metrics_checks.h"

namespace gradlibra {
namespace {

constexpr size_t kThresholds = 10;      // IoU 0.50, 0.55 ... 0.95
constexpr size_t kRecallPoints = 101;   // 0, 0.01 ... 1
constexpr size_t kMaxDetections = 100;  // per image and class

struct AreaRange {
  double low, high;  // both ends belong to it: an object of exactly 32^2 is small and medium
};
constexpr std::array<AreaRange, 4> kRanges{{{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}}};
enum Range : size_t { all, small, medium, large };

struct Candidate {  // a detection of one class, best first within its image
  Box box;
  double score, area;
};
struct Target {
  Box box;
  double area;
  bool crowd;
};
struct ClassImage {
  std::vector<Candidate> candidates;
  std::vector<Target> targets;
  std::vector<double> iou;  // (candidates, targets)
};

double extent(float low, float high) { return static_cast<double>(high) - static_cast<double>(low); }
double box_area(const Box& box) { return extent(box.x1, box.x2) * extent(box.y1, box.y2); }

// Against a crowd region the union is the detection alone.
double overlap(const Candidate& candidate, const Target& target) {
  const Box &a = candidate.box, &b = target.box;
  const double width = extent(std::max(a.x1, b.x1), std::min(a.x2, b.x2)),
               height = extent(std::max(a.y1, b.y1), std::min(a.y2, b.y2));
  if (width <= 0 || height <= 0) return 0;
  const double intersection = width * height;
  const double area_union = target.crowd ? candidate.area : candidate.area + box_area(b) - intersection;
  return area_union > 0 ? intersection / area_union : 0;
}

std::vector<ClassImage> collect(int label, const Dataset& dataset, const Detections& detections,
                                const CocoOptions& options) {
  std::vector<ClassImage> images(dataset.images.size());
  for (size_t i = 0; i < images.size(); ++i) {
    ClassImage& image = images[i];
    for (const Detection& detection : detections[i]) {
      if (detection.label == label)
        image.candidates.push_back({detection.box, detection.score, box_area(detection.box)});
    }
    std::stable_sort(image.candidates.begin(), image.candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    if (image.candidates.size() > kMaxDetections) image.candidates.resize(kMaxDetections);
    for (const Object& object : dataset.images[i].objects) {
      const bool as_annotated = object.area > 0 || options.annotated_area;
      if (object.label == label)
        image.targets.push_back({object.box, as_annotated ? object.area : box_area(object.box), object.crowd});
    }
    for (const Candidate& candidate : image.candidates) {
      for (const Target& target : image.targets) image.iou.push_back(overlap(candidate, target));
    }
  }
  return images;
}

enum class Outcome : uint8_t { hit, miss, ignored };

// One image at one IoU threshold. Targets that count come first, so the scan can stop at the first ignored one once it
// holds a match.
std::vector<Outcome> match(const ClassImage& image, const AreaRange& range, double threshold) {
  const auto outside = [&](double area) { return area < range.low || area > range.high; };
  const auto ignored = [&](const Target& target) { return target.crowd || outside(target.area); };
  std::vector<size_t> order(image.targets.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_partition(order.begin(), order.end(), [&](size_t i) { return !ignored(image.targets[i]); });

  constexpr size_t none = std::numeric_limits<size_t>::max();
  std::vector<bool> matched(image.targets.size(), false);
  std::vector<Outcome> outcomes;
  for (size_t d = 0; d < image.candidates.size(); ++d) {
    double best_iou = std::min(threshold, 1 - 1e-10);
    size_t best = none;
    for (const size_t t : order) {
      const Target& target = image.targets[t];
      if (matched[t] && !target.crowd) continue;
      if (best != none && !ignored(image.targets[best]) && ignored(target)) break;
      const double iou = image.iou[d * image.targets.size() + t];
      if (iou < best_iou) continue;
      best_iou = iou;  // an equal overlap moves to the later target
      best = t;
    }
    if (best != none) {
      matched[best] = true;
      outcomes.push_back(ignored(image.targets[best]) ? Outcome::ignored : Outcome::hit);
    } else {
      outcomes.push_back(outside(image.candidates[d].area) ? Outcome::ignored : Outcome::miss);
    }
  }
  return outcomes;
}

struct Cell {
  double ap = 0, recall = 0;
};

// `outcomes[i]` for the detections of image i; only the first `most` of each image take part.
Cell accumulate(const std::vector<ClassImage>& images, const std::vector<std::vector<Outcome>>& outcomes,
                int64_t targets, size_t most) {
  std::vector<std::pair<double, Outcome>> ranking;
  for (size_t i = 0; i < images.size(); ++i) {
    for (size_t d = 0; d < std::min(most, outcomes[i].size()); ++d)
      ranking.emplace_back(images[i].candidates[d].score, outcomes[i][d]);
  }
  std::stable_sort(ranking.begin(), ranking.end(), [](const auto& a, const auto& b) { return a.first > b.first; });

  std::vector<double> recall, precision;
  double tp = 0, fp = 0;
  for (const auto& [score, outcome] : ranking) {
    if (outcome == Outcome::ignored) continue;
    (outcome == Outcome::hit ? tp : fp) += 1;
    recall.push_back(tp / static_cast<double>(targets));
    precision.push_back(tp / (tp + fp + std::numeric_limits<double>::epsilon()));
  }
  for (size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);

  Cell cell;
  cell.recall = recall.empty() ? 0 : recall.back();
  size_t at = 0;
  for (size_t point = 0; point < kRecallPoints; ++point) {
    const double wanted = point + 1 == kRecallPoints ? 1.0 : static_cast<double>(point) * 0.01;
    while (at < recall.size() && recall[at] < wanted) ++at;
    if (at < precision.size()) cell.ap += precision[at];
  }
  cell.ap /= static_cast<double>(kRecallPoints);
  return cell;
}

class Mean {
 public:
  void add(double value) {
    sum_ += value;
    ++count_;
  }
  [[nodiscard]] double value() const { return count_ > 0 ? sum_ / count_ : -1; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

}  // namespace

CocoResult coco_metrics(const Dataset& dataset, const Detections& detections, const CocoOptions& options) {
  check_metrics_input(dataset, detections);
  std::array<double, kThresholds> thresholds{};
  for (size_t t = 0; t < kThresholds; ++t) thresholds[t] = 0.5 + static_cast<double>(t) * ((0.95 - 0.5) / 9);
  thresholds.back() = 0.95;

  std::array<Mean, kRanges.size()> ap, ar;
  Mean ap50, ap75, ar_1, ar_10;
  for (size_t label = 0; label < dataset.classes.size(); ++label) {
    const std::vector<ClassImage> images = collect(static_cast<int>(label), dataset, detections, options);
    for (size_t r = 0; r < kRanges.size(); ++r) {
      int64_t targets = 0;
      for (const ClassImage& image : images) {
        for (const Target& target : image.targets)
          targets += !target.crowd && target.area >= kRanges[r].low && target.area <= kRanges[r].high;
      }
      if (targets == 0) continue;  // this cell does not exist
      for (size_t t = 0; t < kThresholds; ++t) {
        std::vector<std::vector<Outcome>> outcomes;
        outcomes.reserve(images.size());
        for (const ClassImage& image : images) outcomes.push_back(match(image, kRanges[r], thresholds[t]));
        const Cell cell = accumulate(images, outcomes, targets, kMaxDetections);
        ap[r].add(cell.ap);
        ar[r].add(cell.recall);
        if (r != Range::all) continue;
        if (t == 0) ap50.add(cell.ap);
        if (t == 5) ap75.add(cell.ap);
        ar_10.add(accumulate(images, outcomes, targets, 10).recall);
        ar_1.add(accumulate(images, outcomes, targets, 1).recall);
      }
    }
  }
  CocoResult result;
  result.ap = ap[Range::all].value();
  result.ap50 = ap50.value();
  result.ap75 = ap75.value();
  result.ap_small = ap[Range::small].value();
  result.ap_medium = ap[Range::medium].value();
  result.ap_large = ap[Range::large].value();
  result.ar_1 = ar_1.value();
  result.ar_10 = ar_10.value();
  result.ar_100 = ar[Range::all].value();
  result.ar_small = ar[Range::small].value();
  result.ar_medium = ar[Range::medium].value();
  result.ar_large = ar[Range::large].value();
  return result;
}

}  // namespace gradlibra
