// SPDX-License-Identifier: MIT
// COCO metrics against worked cases.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/data/metrics/metric_cases.h"

namespace gradlibra {
namespace {

using namespace metric_cases;

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

}  // namespace
}  // namespace gradlibra
