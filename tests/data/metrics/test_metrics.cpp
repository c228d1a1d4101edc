// SPDX-License-Identifier: MIT
// VOC and COCO metrics against worked cases (tests/vectors/metrics.json, computed with exact arithmetic and the
// published evaluators) and against what must hold for any detections.
#include "data/metrics/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <sstream>

namespace gradlibra {
namespace {

using Json = nlohmann::json;

const Json& vectors() {
  static const Json json = [] {
    std::ifstream stream(GRADLIBRA_TEST_VECTORS "/metrics.json");
    return Json::parse(stream);
  }();
  return json;
}

Box corners(const Json& box) {
  return {box[0].get<float>(), box[1].get<float>(), box[2].get<float>(), box[3].get<float>()};
}
Box from_xywh(const Json& box) {
  return {box[0].get<float>(), box[1].get<float>(), box[0].get<float>() + box[2].get<float>(),
          box[1].get<float>() + box[3].get<float>()};
}
double area(const Box& box) { return (static_cast<double>(box.x2) - box.x1) * (static_cast<double>(box.y2) - box.y1); }

struct Case {
  Dataset dataset;
  Detections detections;
};

Case empty_case(size_t images, size_t classes) {
  Case result;
  result.dataset.images.resize(images);
  result.detections.resize(images);
  for (size_t i = 0; i < classes; ++i) result.dataset.classes.push_back("class " + std::to_string(i));
  return result;
}

Case voc_case(const Json& json) {
  Case result = empty_case(json["num_images"], json["num_classes"]);
  if (json.contains("class_names")) {
    result.dataset.classes = json["class_names"].get<std::vector<std::string>>();
    result.dataset.groups = {{"frequent", {"inflammation"}},
                             {"common", {"normal", "HSIL"}},
                             {"rare", {"atrophy", "bare_nucleus", "SCC", "trichomonad", "LSIL", "ASC_US", "ASC_H"}}};
  }
  for (const Json& gt : json["gts"]) {
    Object object{corners(gt["box"]), gt["class"], gt["difficult"].get<int>() != 0, false, 0};
    object.area = area(object.box);
    result.dataset.images[gt["image"].get<size_t>()].objects.push_back(object);
  }
  std::vector<Json> detections = json["dets"].get<std::vector<Json>>();
  std::sort(detections.begin(), detections.end(), [](const Json& a, const Json& b) { return a["index"] < b["index"]; });
  for (const Json& det : detections) {
    result.detections[det["image"].get<size_t>()].push_back({corners(det["box"]), det["class"], det["score"]});
  }
  return result;
}

const Json& voc_json(const std::string& id) {
  for (const Json& json : vectors()["voc"]) {
    if (json["id"] == id) return json;
  }
  throw std::runtime_error("no case " + id);
}

void expect_close(const std::optional<double>& got, const Json& want, const std::string& what) {
  ASSERT_EQ(got.has_value(), !want.is_null()) << what;
  if (!got) return;
  EXPECT_TRUE(std::abs(*got - want.get<double>()) <= 1e-12) << what << ": " << *got << " instead of " << want;
}

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

Case coco_case(const Json& json) {
  Case result = empty_case(json["images"].size(), json["categories"].size());
  for (const Json& gt : json["gts"]) {
    result.dataset.images[gt["image"].get<size_t>()].objects.push_back(
        {from_xywh(gt["bbox"]), gt["class"], false, gt["iscrowd"].get<int>() != 0, gt["area"]});
  }
  for (const Json& det : json["dets"]) {
    result.detections[det["image"].get<size_t>()].push_back({from_xywh(det["bbox"]), det["class"], det["score"]});
  }
  return result;
}

TEST(CocoMetrics, WorkedCases) {
  int cases = 0;
  for (const Json& json : vectors()["coco"]) {
    // The second case says in words that it is the VOC case of the same boxes.
    const Case example = json["gts"].is_string() ? voc_case(voc_json("voc/ten_classes_groups")) : coco_case(json);
    const std::string id = json["id"];
    const CocoResult result = coco_metrics(example.dataset, example.detections);
    const Json& expected = json["expected"];
    expect_close(result.ap, expected["AP"], id + " AP");
    expect_close(result.ap50, expected["AP50"], id + " AP50");
    expect_close(result.ap75, expected["AP75"], id + " AP75");
    expect_close(result.ap_small, expected["AP_S"], id + " AP_S");
    expect_close(result.ap_medium, expected["AP_M"], id + " AP_M");
    expect_close(result.ap_large, expected["AP_L"], id + " AP_L");
    expect_close(result.ar_1, expected["AR_1"], id + " AR_1");
    expect_close(result.ar_10, expected["AR_10"], id + " AR_10");
    expect_close(result.ar_100, expected["AR_100"], id + " AR_100");
    expect_close(result.ar_small, expected["AR_S"], id + " AR_S");
    expect_close(result.ar_medium, expected["AR_M"], id + " AR_M");
    expect_close(result.ar_large, expected["AR_L"], id + " AR_L");
    for (const auto& [label, values] : json["per_class"].items()) {  // a data set of that class alone
      Case one = example;
      for (ImageRecord& image : one.dataset.images) {
        std::erase_if(image.objects,
                      [&, wanted = std::stoi(label)](const Object& object) { return object.label != wanted; });
      }
      const CocoResult alone = coco_metrics(one.dataset, one.detections);
      expect_close(alone.ap, values["AP"], id + " AP of class " + label);
      expect_close(alone.ap50, values["AP50"], id + " AP50 of class " + label);
      expect_close(alone.ap75, values["AP75"], id + " AP75 of class " + label);
    }
    ++cases;
  }
  EXPECT_EQ(cases, 2);
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

// A large object whose file says `area: 0`: large by its box, small by the letter of the file.
TEST(CocoMetrics, AnAreaOfZeroFollowsTheOption) {
  Case c = empty_case(1, 1);
  const Box box{0, 0, 200, 200};
  c.dataset.images[0].objects = {{box, 0, false, false, 0}};
  c.detections[0] = {{box, 0, 0.9}};
  const CocoResult by_box = coco_metrics(c.dataset, c.detections);
  EXPECT_DOUBLE_EQ(by_box.ap_large, 1);
  EXPECT_EQ(by_box.ap_small, -1);
  const CocoResult by_file = coco_metrics(c.dataset, c.detections, {.annotated_area = true});
  EXPECT_EQ(by_file.ap_large, -1);
  EXPECT_DOUBLE_EQ(by_file.ap_small, 1);
  EXPECT_EQ(by_box.ap, by_file.ap);
}

TEST(CocoMetrics, AtMostAHundredDetectionsPerImageAndClass) {
  Case example = empty_case(1, 2);
  example.dataset.images[0].objects = {{{0, 0, 50, 50}, 0, false, false, 2500}};
  for (int i = 0; i < 100; ++i) example.detections[0].push_back({{100, 100, 150, 150}, 0, 0.9});
  for (int i = 0; i < 100; ++i)
    example.detections[0].push_back({{0, 0, 50, 50}, 1, 0.99});  // of another class: not counted here
  example.detections[0].push_back({{0, 0, 50, 50}, 0, 0.8});     // number 101
  EXPECT_EQ(coco_metrics(example.dataset, example.detections).ap, 0);
  example.detections[0].erase(example.detections[0].begin());
  EXPECT_NEAR(coco_metrics(example.dataset, example.detections).ap, 0.01, 1e-12);
}

// Scores all different; boxes near the ground truth or anywhere.
Case random_case(unsigned seed) {
  std::mt19937 random(seed);
  const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
  const auto box = [&] {
    const float x = uniform(0, 400), y = uniform(0, 400);
    return Box{x, y, x + uniform(4, 120), y + uniform(4, 120)};
  };
  Case result = empty_case(1 + random() % 6, 1 + random() % 4);
  const auto label = [&] { return static_cast<int>(random() % result.dataset.classes.size()); };
  std::vector<double> scores(1000);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = (static_cast<double>(i) + 0.5) / 1000;
  std::shuffle(scores.begin(), scores.end(), random);
  for (size_t i = 0; i < result.dataset.images.size(); ++i) {
    for (size_t n = random() % 8; n > 0; --n) {
      Object object{box(), label(), random() % 6 == 0, false, 0};
      object.area = area(object.box);
      result.dataset.images[i].objects.push_back(object);
      for (size_t repeats = random() % 3; repeats > 0; --repeats) {
        Box near = object.box;
        near.x1 += uniform(-8, 3), near.y1 += uniform(-8, 3), near.x2 += uniform(-3, 8), near.y2 += uniform(-3, 8);
        result.detections[i].push_back({near, random() % 5 == 0 ? label() : object.label, scores.back()});
        scores.pop_back();
      }
    }
    for (size_t n = random() % 4; n > 0; --n) {
      result.detections[i].push_back({box(), label(), scores.back()});
      scores.pop_back();
    }
  }
  return result;
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
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const Detection& bad : {Detection{{0, 0, 1, 1}, 0, nan},
                               {{0, 0, 1, 1}, 0, inf},
                               {{0, nan, 1, 1}, 0, 0.5},
                               {{0, 0, inf, 1}, 0, 0.5},
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
