// SPDX-License-Identifier: MIT
// VOC metrics against worked cases and, for random ones, against the definition.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/metrics/metrics_checks.h"
#include "tests/data/metrics/metric_cases.h"

namespace gradlibra {
namespace {

using namespace metric_cases;

const std::map<std::string, VocConvention> kConventions{
    {"mmdet", VocConvention::mmdet}, {"devkit", VocConvention::devkit}, {"strict_no_plus_one", VocConvention::strict}};

TEST(VocMetrics, WorkedCases) {
  for (const Json& json : vectors()["voc"]) {
    const Case example = voc_case(json);
    for (const auto& [name, expected] : json["expected"].items()) {
      const std::string where = json["id"].get<std::string>() + " " + name;
      VocOptions options{json["iou_threshold"], kConventions.at(name), false};
      const VocResult result = voc_metrics(example.dataset, example.detections, options);
      options.float_thresholds = true;
      const VocResult with_floats = voc_metrics(example.dataset, example.detections, options);
      ASSERT_EQ(result.classes.size(), expected["per_class"].size());
      for (size_t i = 0; i < result.classes.size(); ++i) {
        const Json& one = expected["per_class"][i];
        EXPECT_EQ(result.classes[i].ground_truths, one["npos"].get<int64_t>()) << where;
        expect_close(result.classes[i].ap, one["ap_area"], where + " area of class " + std::to_string(i));
        expect_close(result.classes[i].ap_11_point, one["ap_11"], where + " 11-point of class " + std::to_string(i));
        expect_close(with_floats.classes[i].ap_11_point, one["ap_11_float"],
                     where + " 11-point in floats of class " + std::to_string(i));
        expect_close(result.classes[i].recall, one["recall"], where + " recall of class " + std::to_string(i));
      }
      expect_close(result.map, expected["mAP_area"], where + " mAP");
      expect_close(result.map_11_point, expected["mAP_11"], where + " 11-point mAP");
      expect_close(result.mean_recall, expected["mean_recall"], where + " mean recall");
      if (!expected.contains("groups")) continue;
      for (const auto& [group, values] : expected["groups"].items()) {
        expect_close(result.group_ap.at(group), values["AP_area"], where + " AP of " + group);
        expect_close(result.group_recall.at(group), values["mR"], where + " recall of " + group);
      }
    }
  }
}

// The ranking with its ties, which of it is right, and what precision each recall has.
TEST(VocMetrics, WorkedRankings) {
  int rankings = 0;
  for (const Json& json : vectors()["voc"]) {
    const Case example = voc_case(json);
    const VocResult result = voc_metrics(example.dataset, example.detections);
    for (const Json& one : json["expected"]["mmdet"]["per_class"]) {
      if (!one.contains("order")) continue;
      const auto label = one["cls"].get<size_t>();
      SCOPED_TRACE(json["id"].get<std::string>() + " class " + std::to_string(label));
      ++rankings;
      std::vector<std::pair<size_t, bool>> want, got;  // image, whether it is right
      for (size_t i = 0; i < one["order"].size(); ++i)
        if (one["flags"][i] != "ignored") want.emplace_back(one["order"][i][0], one["flags"][i] == "tp");
      for (const VocMatch& match : match_class(static_cast<int>(label), example.dataset, example.detections, {}))
        got.emplace_back(match.image, match.right);
      EXPECT_EQ(got, want);
      if (!one.contains("precision_curve")) continue;
      const PrecisionRecall& curve = result.classes[label].curve;
      ASSERT_EQ(curve.precision.size(), 101u);
      size_t reached = 0;
      for (size_t k = 0; k <= 100; ++k) {
        double best = 0;
        std::optional<double> score;
        for (size_t i = 0; i < one["order"].size(); ++i) {
          if (one["recall_curve"][i].get<double>() < 0.01 * static_cast<double>(k) - 1e-12) continue;
          best = std::max(best, one["precision_curve"][i].get<double>());
          const Json& place = one["order"][i];
          if (!score && one["flags"][i] != "ignored")
            score = example.detections[place[0].get<size_t>()][place[1].get<size_t>()].score;
        }
        EXPECT_NEAR(curve.precision[k], best, 1e-12) << k;
        if (!score) continue;
        ++reached;
        ASSERT_GT(curve.score.size(), k);
        EXPECT_EQ(curve.score[k], *score) << k;
      }
      EXPECT_EQ(curve.score.size(), reached);
    }
  }
  EXPECT_EQ(rankings, 6);
}

TEST(VocMetrics, ElevenPointThresholds) {
  const Case example = voc_case(voc_json("voc/eleven_point_float_trap"));
  EXPECT_NEAR(*voc_metrics(example.dataset, example.detections).map_11_point, 0.568182, 1e-6);
  EXPECT_NEAR(*voc_metrics(example.dataset, example.detections, {0.5, VocConvention::mmdet, true}).map_11_point,
              0.477273, 1e-6);
}

TEST(VocMetrics, LegacyBoxSizes) {
  const Json& json = vectors()["voc_ap"];
  Case example = empty_case(2, 1);
  for (size_t i = 0; i < 2; ++i) {
    for (const Json& box : json["inputs"]["gt"][i])
      example.dataset.images[i].objects.push_back({corners(box), 0, false, false, 0});
    for (const Json& box : json["inputs"]["gt_ignore"][i])
      example.dataset.images[i].objects.push_back({corners(box), 0, true, false, 0});
    for (const Json& box : json["inputs"]["detections"][i]) example.detections[i].push_back({corners(box), 0, box[4]});
  }
  for (const auto& [name, convention] :
       {std::pair{"legacy", VocConvention::mmdet_legacy}, {"plain", VocConvention::mmdet}}) {
    const ClassResult result = voc_metrics(example.dataset, example.detections, {0.5, convention, true}).classes[0];
    EXPECT_NEAR(*result.ap, json["expected"][name]["ap_area"], 1e-9);
    EXPECT_NEAR(*result.ap_11_point, json["expected"][name]["ap_11point"], 1e-9);
    EXPECT_NEAR(*result.recall, json["expected"][name]["final_recall"], 1e-9);
  }
  EXPECT_NEAR(*voc_metrics(example.dataset, example.detections).classes[0].ap_11_point, 0.381818182, 1e-9);
}

TEST(VocMetrics, ThresholdItself) {
  Case example = empty_case(1, 1);
  example.dataset.images[0].objects = {{{0, 0, 10, 10}, 0, false, false, 100}};
  example.detections[0] = {{{0, 0, 10, 5}, 0, 0.9}};  // IoU 0.5 exactly; with "+1" 66 / 121
  EXPECT_EQ(*voc_metrics(example.dataset, example.detections, {0.5, VocConvention::mmdet, false}).map, 1);
  EXPECT_EQ(*voc_metrics(example.dataset, example.detections, {0.5, VocConvention::strict, false}).map, 0);
  EXPECT_EQ(*voc_metrics(example.dataset, example.detections, {0.5, VocConvention::devkit, false}).map, 1);
}

TEST(VocMetrics, CrowdCountsAsDifficult) {
  Case example = empty_case(1, 1);
  example.dataset.images[0].objects = {{{0, 0, 10, 10}, 0, false, false, 100},
                                       {{20, 20, 90, 90}, 0, false, true, 4900}};
  example.detections[0] = {{{20, 20, 90, 90}, 0, 0.9}, {{0, 0, 10, 10}, 0, 0.8}};
  const VocResult result = voc_metrics(example.dataset, example.detections);
  EXPECT_EQ(result.classes[0].ground_truths, 1);
  EXPECT_EQ(*result.map, 1);
}

// Two of three detections between 0.6 and 0.7 are right; the one at 1 is right and belongs to the last bin; a second
// detection of a found object is wrong; a class without truth does not count.
TEST(VocMetrics, CalibrationHoldsScoresAgainstWhatIsRight) {
  Case c = empty_case(1, 2);
  c.dataset.groups = {{"rare", {c.dataset.classes[0]}}, {"common", {c.dataset.classes[1]}}};
  const auto box = [](float x) { return Box{x, 0, x + 10, 10}; };
  for (const float x : {0.f, 20.f, 40.f}) c.dataset.images[0].objects.push_back({box(x), 0, false, false, 0});
  c.detections[0] = {{box(0), 0, 1.0},     {box(20), 0, 0.625}, {box(40), 0, 0.6875},
                     {box(60), 0, 0.6875}, {box(0), 0, 0.25},   {box(80), 1, 0.9}};
  const VocResult result = voc_metrics(c.dataset, c.detections);
  const auto& bins = result.calibration.bins;
  EXPECT_EQ(bins[9].detections, 1);
  EXPECT_EQ(bins[9].precision, 1);
  EXPECT_EQ(bins[6].detections, 3);
  EXPECT_DOUBLE_EQ(bins[6].mean_score, 2.0 / 3);
  EXPECT_DOUBLE_EQ(bins[6].precision, 2.0 / 3);
  EXPECT_EQ(bins[2].detections, 1);
  EXPECT_EQ(bins[2].precision, 0);
  EXPECT_EQ(bins[0].detections, 0);
  EXPECT_DOUBLE_EQ(result.calibration.error, 0.25 / 5);
  EXPECT_DOUBLE_EQ(result.group_calibration.at("rare").error, 0.25 / 5);
  EXPECT_EQ(result.group_calibration.at("common").error, 0);
  const auto json = nlohmann::json::parse(metrics_json(c.dataset, result, coco_metrics(c.dataset, c.detections)));
  EXPECT_DOUBLE_EQ(json["calibration"]["rare"]["bins"][6]["precision"].get<double>(), 2.0 / 3);
}

// Straight from the definition: after the k-th best score, and with sets instead of cumulated lists.
std::optional<double> voc_oracle(const Case& example, int label) {
  struct Hit {
    double score;
    int kind;  // 1 true, 0 false, -1 ignored
  };
  std::vector<std::tuple<double, size_t, Box>> all;
  int n = 0;
  for (size_t i = 0; i < example.detections.size(); ++i) {
    for (const Detection& detection : example.detections[i]) {
      if (detection.label == label) all.emplace_back(-detection.score, i, detection.box);
    }
    for (const Object& object : example.dataset.images[i].objects) n += object.label == label && !object.difficult;
  }
  if (n == 0) return std::nullopt;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return std::get<0>(a) < std::get<0>(b); });
  std::vector<const Object*> taken;
  std::vector<Hit> hits;
  for (const auto& [score, image, box] : all) {
    const Object* best = nullptr;
    double best_iou = 0;
    for (const Object& object : example.dataset.images[image].objects) {
      if (object.label != label) continue;
      const double w = std::min<double>(box.x2, object.box.x2) - std::max<double>(box.x1, object.box.x1);
      const double h = std::min<double>(box.y2, object.box.y2) - std::max<double>(box.y1, object.box.y1);
      if (w <= 0 || h <= 0) continue;
      const double iou = w * h / (area(box) + area(object.box) - w * h);
      if (iou > best_iou) best_iou = iou, best = &object;
    }
    int kind = 0;
    if (best_iou >= 0.5) {
      if (best->difficult) {
        kind = -1;
      } else if (std::find(taken.begin(), taken.end(), best) == taken.end()) {
        kind = 1;
        taken.push_back(best);
      }
    }
    hits.push_back({-score, kind});
  }
  double sum = 0;
  for (int k = 1; k <= n; ++k) {  // AP = 1/n sum over k of the best precision once k are found
    double best = 0;
    for (size_t end = 1; end <= hits.size(); ++end) {
      const auto tp = std::count_if(hits.begin(), hits.begin() + static_cast<int>(end),
                                    [](const Hit& hit) { return hit.kind == 1; });
      const auto counted = std::count_if(hits.begin(), hits.begin() + static_cast<int>(end),
                                         [](const Hit& hit) { return hit.kind >= 0; });
      if (tp >= k) best = std::max(best, static_cast<double>(tp) / static_cast<double>(counted));
    }
    sum += best;
  }
  return sum / n;
}

TEST(VocMetrics, RandomCasesAgainstTheDefinition) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const Case example = random_case(seed);
    const VocResult result = voc_metrics(example.dataset, example.detections);
    for (size_t label = 0; label < result.classes.size(); ++label) {
      const auto want = voc_oracle(example, static_cast<int>(label));
      ASSERT_EQ(result.classes[label].ap.has_value(), want.has_value()) << seed;
      if (!want) continue;
      ASSERT_TRUE(std::abs(*result.classes[label].ap - *want) <= 1e-12) << seed;
    }
  }
}

}  // namespace
}  // namespace gradlibra
