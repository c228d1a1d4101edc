// SPDX-License-Identifier: MIT
// What holds for any detections and metrics, the confusion of classes, the report.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/data/metrics/metric_cases.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using namespace metric_cases;
using testing::kInfinity;
using testing::kNaN;

void expect_same(const CocoResult& a, const CocoResult& b, unsigned seed) {
  for (const auto member :
       {&CocoResult::ap, &CocoResult::ap50, &CocoResult::ap75, &CocoResult::ap_small, &CocoResult::ap_medium,
        &CocoResult::ap_large, &CocoResult::ar_1, &CocoResult::ar_10, &CocoResult::ar_100}) {
    EXPECT_TRUE(std::abs(a.*member - b.*member) <= 1e-12) << seed;
  }
}

TEST(Metrics, OrderDoesNotMatterWhenScoresDiffer) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const Case example = random_case(seed);
    Case shuffled = empty_case(example.detections.size(), example.dataset.classes.size());
    std::vector<size_t> order(example.detections.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::mt19937 random(seed + 1000);
    std::shuffle(order.begin(), order.end(), random);
    for (size_t i = 0; i < order.size(); ++i) {
      shuffled.dataset.images[i] = example.dataset.images[order[i]];
      shuffled.detections[i] = example.detections[order[i]];
      std::shuffle(shuffled.detections[i].begin(), shuffled.detections[i].end(), random);
      std::shuffle(shuffled.dataset.images[i].objects.begin(), shuffled.dataset.images[i].objects.end(), random);
    }
    const VocResult a = voc_metrics(example.dataset, example.detections),
                    b = voc_metrics(shuffled.dataset, shuffled.detections);
    ASSERT_EQ(a.map.has_value(), b.map.has_value());
    if (a.map) {
      EXPECT_TRUE(std::abs(*a.map - *b.map) <= 1e-12) << seed;
      EXPECT_TRUE(std::abs(*a.map_11_point - *b.map_11_point) <= 1e-12) << seed;
      EXPECT_TRUE(std::abs(*a.mean_recall - *b.mean_recall) <= 1e-12) << seed;
    }
    expect_same(coco_metrics(example.dataset, example.detections), coco_metrics(shuffled.dataset, shuffled.detections),
                seed);
  }
}

TEST(Metrics, PerfectDetectionsHaveApOne) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Case example = random_case(seed);
    bool any = false;
    for (size_t i = 0; i < example.detections.size(); ++i) {
      example.detections[i].clear();
      for (Object& object : example.dataset.images[i].objects) {
        object.difficult = false;
        example.detections[i].push_back({object.box, object.label, 0.5});  // every score the same
        any = true;
      }
    }
    if (!any) continue;
    for (const VocConvention convention :
         {VocConvention::mmdet, VocConvention::devkit, VocConvention::strict, VocConvention::mmdet_legacy}) {
      const VocResult voc = voc_metrics(example.dataset, example.detections, {0.5, convention, false});
      EXPECT_DOUBLE_EQ(*voc.map, 1);
      EXPECT_DOUBLE_EQ(*voc.map_11_point, 1);
      EXPECT_DOUBLE_EQ(*voc.mean_recall, 1);
    }
    const CocoResult coco = coco_metrics(example.dataset, example.detections);
    EXPECT_NEAR(coco.ap, 1, 1e-12);
    EXPECT_NEAR(coco.ar_100, 1, 1e-12);
  }
}

TEST(Metrics, NothingToFindOrNothingFound) {
  const Case nothing = empty_case(0, 0);
  EXPECT_FALSE(voc_metrics(nothing.dataset, nothing.detections).map.has_value());
  EXPECT_EQ(coco_metrics(nothing.dataset, nothing.detections).ap, -1);

  Case no_truth = empty_case(2, 1);
  no_truth.detections[1] = {{{0, 0, 5, 5}, 0, 0.5}};
  const VocResult undefined = voc_metrics(no_truth.dataset, no_truth.detections);
  EXPECT_FALSE(undefined.classes[0].ap || undefined.classes[0].recall || undefined.map);
  EXPECT_EQ(undefined.classes[0].detections, 1);
  EXPECT_EQ(coco_metrics(no_truth.dataset, no_truth.detections).ar_100, -1);

  Case not_found = empty_case(1, 2);
  not_found.dataset.groups = {{"a", {"class 0"}}, {"b", {"class 1"}}, {"c", {}}};
  not_found.dataset.images[0].objects = {{{0, 0, 5, 5}, 0, false, false, 25}};
  const VocResult zero = voc_metrics(not_found.dataset, not_found.detections);
  EXPECT_EQ(zero.map, 0);
  EXPECT_EQ(zero.mean_recall, 0);
  EXPECT_EQ(zero.group_ap.at("a"), 0);
  EXPECT_FALSE(zero.group_ap.at("b").has_value());
  EXPECT_FALSE(zero.group_ap.at("c").has_value());
  EXPECT_EQ(coco_metrics(not_found.dataset, not_found.detections).ap, 0);

  Case flat = empty_case(1, 1);  // boxes without area: no overlap with anything, no NaN
  flat.dataset.images[0].objects = {{{5, 5, 5, 5}, 0, false, false, 0}};
  flat.detections[0] = {{{5, 5, 5, 5}, 0, 0.5}, {{9, 9, 1, 1}, 0, 0.4}};
  EXPECT_EQ(voc_metrics(flat.dataset, flat.detections).map, 0);
  EXPECT_EQ(coco_metrics(flat.dataset, flat.detections).ap, 0);
}

TEST(Metrics, BadInputIsRefused) {
  const auto expect_refused = [](const Case& example) {
    EXPECT_THROW((void)voc_metrics(example.dataset, example.detections), std::invalid_argument);
    EXPECT_THROW((void)coco_metrics(example.dataset, example.detections), std::invalid_argument);
  };
  for (const Detection& bad : {Detection{{0, 0, 1, 1}, 0, kNaN},
                               {{0, 0, 1, 1}, 0, kInfinity},
                               {{0, kNaN, 1, 1}, 0, 0.5},
                               {{0, 0, kInfinity, 1}, 0, 0.5},
                               {{0, 0, 1, 1}, -1, 0.5},
                               {{0, 0, 1, 1}, 1, 0.5}}) {
    Case example = empty_case(1, 1);
    example.detections[0] = {bad};
    expect_refused(example);
  }
  Case example = empty_case(1, 1);
  example.detections.resize(2);
  expect_refused(example);
  example = empty_case(1, 1);
  example.dataset.images[0].objects = {{{0, 0, 1, 1}, 1, false, false, 1}};
  expect_refused(example);
  example = empty_case(1, 1);
  example.dataset.groups["rare"] = {"class 7"};
  EXPECT_THROW((void)voc_metrics(example.dataset, example.detections), std::invalid_argument);
}

// Three truths; hit, miss, hit by falling score: precision 1 up to recall 1/3, 2/3 up to 2/3, 0 beyond.
TEST(PrecisionRecallCurve, ByHand) {
  Case example = empty_case(1, 1);
  for (const float x : {0.f, 20.f, 40.f})
    example.dataset.images[0].objects.push_back({{x, 0, x + 10, 10}, 0, false, false, 100});
  example.detections[0] = {{{0, 0, 10, 10}, 0, 0.9}, {{70, 0, 80, 10}, 0, 0.8}, {{20, 0, 30, 10}, 0, 0.5}};
  const PrecisionRecall curve = voc_metrics(example.dataset, example.detections).classes[0].curve;
  ASSERT_EQ(curve.precision.size(), 101u);
  EXPECT_EQ(curve.precision[0], 1);
  EXPECT_EQ(curve.precision[33], 1);
  EXPECT_EQ(curve.precision[34], 2 / 3.);
  EXPECT_EQ(curve.precision[66], 2 / 3.);
  EXPECT_EQ(curve.precision[67], 0);
  ASSERT_EQ(curve.score.size(), 67u);
  EXPECT_EQ(curve.score[33], 0.9);
  EXPECT_EQ(curve.score[34], 0.5);
  // The mean over the points is COCO's AP at this overlap but for its epsilon.
  EXPECT_NEAR(std::accumulate(curve.precision.begin(), curve.precision.end(), 0.0) / 101,
              coco_metrics(example.dataset, example.detections).ap50, 1e-12);
}

TEST(Confusion, PairsByOverlapWhateverTheClass) {
  Case example = empty_case(2, 2);
  example.dataset.images[0].objects = {{{0, 0, 10, 10}, 0, false, false, 100},
                                       {{30, 0, 40, 10}, 1, false, false, 100},
                                       {{60, 0, 70, 10}, 0, true, false, 100}};  // difficult
  example.detections[0] = {{{0, 0, 10, 9}, 1, 0.9},     // on class 0, but the next one fits better
                           {{0, 0, 10, 10}, 0, 0.4},    // right
                           {{30, 0, 40, 10}, 0, 0.8},   // taken for class 0
                           {{60, 0, 70, 10}, 1, 0.9},   // on what does not count
                           {{90, 0, 99, 10}, 1, 0.7},   // nothing there
                           {{30, 0, 40, 10}, 1, 0.2}};  // not sure enough
  example.dataset.images[1].objects = {{{0, 0, 10, 10}, 1, false, false, 100}};  // not found
  const ConfusionMatrix found = confusion_matrix(example.dataset, example.detections);
  EXPECT_EQ(found.counts, (std::vector<std::vector<int64_t>>{{1, 0, 0}, {1, 0, 1}, {0, 2, 0}}));
  EXPECT_EQ(confusion_matrix(example.dataset, example.detections, {.min_score = 0.95}).counts,
            (std::vector<std::vector<int64_t>>{{0, 0, 1}, {0, 0, 2}, {0, 0, 0}}));
}

TEST(MetricsReport, TableAndJson) {
  Case example = voc_case(voc_json("voc/ten_classes_groups"));
  example.dataset.groups["odd"] = {"LSIL"};
  const VocResult voc = voc_metrics(example.dataset, example.detections);
  const CocoResult coco = coco_metrics(example.dataset, example.detections);
  const std::string table = metrics_table(example.dataset, voc, coco);
  for (const char* part : {"inflammation   frequent",
                           "AP_f",
                           "AP_c",
                           "AP_r",
                           "AP_odd",
                           "mR_f",
                           "mAP@0.5",
                           "COCO AP",
                           "0.560",
                           "0.330",
                           "rare, odd",
                           "AP small",
                           "AP medium",
                           "AP large",
                           "AR 1 ",
                           "AR 10 ",
                           "AR 100",
                           "AR small",
                           "AR medium",
                           "AR large",
                           "maxDets=100"}) {
    EXPECT_NE(table.find(part), std::string::npos) << part << " is not in\n" << table;
  }
  size_t width = 0;  // all lines of the framed part are equally wide
  std::istringstream lines(table);
  int framed = 0;
  for (std::string line; std::getline(lines, line) && framed < 15; ++framed) {
    const auto columns =
        static_cast<size_t>(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
    if (framed == 0) width = columns;
    EXPECT_EQ(columns, width) << line;
  }
  EXPECT_EQ(framed, 15);

  const Json json = Json::parse(metrics_json(example.dataset, voc, coco));
  EXPECT_NEAR(json["mAP"], *voc.map, 1e-15);
  EXPECT_NEAR(json["groups"]["AP_f"], *voc.group_ap.at("frequent"), 1e-15);
  EXPECT_NEAR(json["groups"]["mR_odd"], *voc.group_recall.at("odd"), 1e-15);
  EXPECT_NEAR(json["coco"]["AP50"], coco.ap50, 1e-15);
  EXPECT_EQ(json["classes"].size(), 10u);
  EXPECT_EQ(json["classes"][0]["name"], example.dataset.classes[0]);
  EXPECT_NEAR(json["coco"]["AR_small"], coco.ar_small, 1e-15);
  EXPECT_EQ(json["classes"][0]["precision_recall"]["precision"].size(), 101u);
  EXPECT_EQ(json["classes"][0]["precision_recall"]["recall"][1], 0.01);
  EXPECT_EQ(json["classes"][0]["precision_recall"]["score"].size(), 101u);
  EXPECT_EQ(json["confusion"]["names"].size(), 11u);
  EXPECT_EQ(json["confusion"]["counts"].size(), 11u);

  Case none = empty_case(1, 1);
  none.dataset.classes = {"Zellkern, groß \"x\""};
  const VocResult nothing = voc_metrics(none.dataset, none.detections);
  const Json empty = Json::parse(metrics_json(none.dataset, nothing, {}));
  EXPECT_TRUE(empty["mAP"].is_null());
  EXPECT_TRUE(empty["coco"]["AP"].is_null());
  EXPECT_TRUE(empty["classes"][0]["AP"].is_null());
  EXPECT_EQ(empty["classes"][0]["name"], none.dataset.classes[0]);
  EXPECT_EQ(metrics_table(none.dataset, nothing, {}).find("group"), std::string::npos);
  if (std::getenv("GRADLIBRA_SHOW") != nullptr)
    std::printf("%s\n%s\n", table.c_str(), metrics_table(none.dataset, nothing, {}).c_str());
}

}  // namespace
}  // namespace gradlibra
