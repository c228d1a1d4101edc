// SPDX-License-Identifier: MIT
// Cases for the metrics: from tests/vectors/metrics.json, which was computed with exact arithmetic and the published
// evaluators, and random ones.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/metrics/metrics.h"

namespace gradlibra::metric_cases {

using Json = nlohmann::json;

inline const Json& vectors() {
  static const Json json = [] {
    std::ifstream stream(GRADLIBRA_TEST_VECTORS "/metrics.json");
    return Json::parse(stream);
  }();
  return json;
}

inline Box corners(const Json& box) {
  return {box[0].get<float>(), box[1].get<float>(), box[2].get<float>(), box[3].get<float>()};
}
inline Box from_xywh(const Json& box) {
  return {box[0].get<float>(), box[1].get<float>(), box[0].get<float>() + box[2].get<float>(),
          box[1].get<float>() + box[3].get<float>()};
}
inline double area(const Box& box) {
  return (static_cast<double>(box.x2) - box.x1) * (static_cast<double>(box.y2) - box.y1);
}

struct Case {
  Dataset dataset;
  Detections detections;
};

inline Case empty_case(size_t images, size_t classes) {
  Case result;
  result.dataset.images.resize(images);
  result.detections.resize(images);
  for (size_t i = 0; i < classes; ++i) result.dataset.classes.push_back("class " + std::to_string(i));
  return result;
}

inline Case voc_case(const Json& json) {
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

inline const Json& voc_json(const std::string& id) {
  for (const Json& json : vectors()["voc"]) {
    if (json["id"] == id) return json;
  }
  throw std::runtime_error("no case " + id);
}

// Scores all different; boxes near the ground truth or anywhere.
inline Case random_case(unsigned seed) {
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

inline void expect_close(const std::optional<double>& got, const Json& want, const std::string& what) {
  ASSERT_EQ(got.has_value(), !want.is_null()) << what;
  if (!got) return;
  EXPECT_TRUE(std::abs(*got - want.get<double>()) <= 1e-12) << what << ": " << *got << " instead of " << want;
}

}  // namespace gradlibra::metric_cases
