// SPDX-License-Identifier: MIT
// Resampled metrics against evaluating the resampled data set itself.
#include "data/metrics/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "runtime/base/random.h"

namespace gradlibra {
namespace {

struct Case {
  Dataset dataset;
  Detections detections;
};

// Images with up to three objects of three classes, the last of them rare, some difficult; detections near them and
// anywhere, every score another.
Case random_case(size_t images, uint32_t seed) {
  std::mt19937 rng(seed);
  const auto uniform = [&](double low, double high) { return std::uniform_real_distribution<>(low, high)(rng); };
  const auto box_at = [&](double x, double y) {
    return Box{static_cast<float>(x), static_cast<float>(y), static_cast<float>(x + 10), static_cast<float>(y + 10)};
  };
  Case result;
  result.dataset.classes = {"a", "b", "c"};
  result.dataset.groups = {{"frequent", {"a"}}, {"rare", {"b", "c"}}};
  result.dataset.images.resize(images);
  result.detections.resize(images);
  for (size_t i = 0; i < images; ++i) {
    const auto count = rng() % 4;
    for (size_t k = 0; k < count; ++k) {
      const int label = rng() % 12 == 0 ? 2 : static_cast<int>(rng() % 2);
      const double x = uniform(0, 90), y = uniform(0, 90);
      result.dataset.images[i].objects.push_back({box_at(x, y), label, rng() % 8 == 0, false, 100});
      if (rng() % 4 != 0) result.detections[i].push_back({box_at(x + uniform(-4, 4), y), label, uniform(0, 1)});
    }
    if (rng() % 2 == 0)
      result.detections[i].push_back(
          {box_at(uniform(0, 90), uniform(0, 90)), static_cast<int>(rng() % 3), uniform(0, 1)});
  }
  return result;
}

// The images of one draw, each as often as it was drawn, copies together.
Case resampled(const Case& from, uint64_t seed, uint64_t sample) {
  RandomStream random(seed, {sample});
  std::vector<int> times(from.dataset.images.size());
  for (size_t i = 0; i < times.size(); ++i)
    ++times[static_cast<size_t>(random.uniform_int(static_cast<int64_t>(times.size())))];
  Case result{from.dataset, {}};
  result.dataset.images.clear();
  for (size_t i = 0; i < times.size(); ++i)
    for (int k = 0; k < times[i]; ++k) {
      result.dataset.images.push_back(from.dataset.images[i]);
      result.detections.push_back(from.detections[i]);
    }
  return result;
}

double deviation(const std::vector<double>& values) {
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

TEST(Bootstrap, EqualsTheEvaluationOfEveryResampledSet) {
  constexpr uint64_t kSeed = 5;
  for (const size_t images : {3u, 17u, 60u}) {
    const Case given = random_case(images, static_cast<uint32_t>(images));
    for (const int samples : {2, 9}) {
      const BootstrapResult got = bootstrap_metrics(given.dataset, given.detections, {}, samples, kSeed);
      std::vector<double> maps, rare;
      std::vector<std::vector<double>> classes(3);
      for (int s = 0; s < samples; ++s) {
        const Case one = resampled(given, kSeed, static_cast<uint64_t>(s));
        const VocResult want = voc_metrics(one.dataset, one.detections);
        if (want.map) maps.push_back(*want.map);
        if (want.group_ap.at("rare")) rare.push_back(*want.group_ap.at("rare"));
        for (size_t c = 0; c < 3; ++c)
          if (want.classes[c].ap) classes[c].push_back(*want.classes[c].ap);
      }
      ASSERT_TRUE(got.map.has_value());
      ASSERT_GE(maps.size(), 2u);
      EXPECT_NEAR(got.map->deviation, deviation(maps), 1e-12) << images << " images";
      if (samples == 2) {
        const auto [low, high] = std::minmax(maps[0], maps[1]);
        EXPECT_NEAR(got.map->low, low + 0.025 * (high - low), 1e-12);
        EXPECT_NEAR(got.map->high, low + 0.975 * (high - low), 1e-12);
      }
      EXPECT_EQ(got.group_ap.at("rare").has_value(), !rare.empty());
      if (rare.size() > 1) {
        EXPECT_NEAR(got.group_ap.at("rare")->deviation, deviation(rare), 1e-12);
      }
      for (size_t c = 0; c < 3; ++c) {
        ASSERT_EQ(got.classes[c].has_value(), !classes[c].empty()) << c;
        if (classes[c].size() > 1) {
          EXPECT_NEAR(got.classes[c]->deviation, deviation(classes[c]), 1e-12) << c;
        }
      }
    }
  }
}

TEST(Bootstrap, OneSeedOneResult) {
  const Case given = random_case(40, 1);
  const auto first = bootstrap_metrics(given.dataset, given.detections, {}, 50, 1),
             again = bootstrap_metrics(given.dataset, given.detections, {}, 50, 1),
             other = bootstrap_metrics(given.dataset, given.detections, {}, 50, 2);
  EXPECT_EQ(first.map->low, again.map->low);
  EXPECT_EQ(first.map->deviation, again.map->deviation);
  EXPECT_NE(first.map->deviation, other.map->deviation);
  const double map = *voc_metrics(given.dataset, given.detections).map;
  EXPECT_LT(first.map->low, map);
  EXPECT_GT(first.map->high, map);
}

TEST(Bootstrap, ImagesThatAreAllAlikeHaveNoSpread) {
  Case given = random_case(30, 2);
  for (size_t i = 1; i < 30; ++i) {
    given.dataset.images[i] = given.dataset.images[0];
    given.detections[i] = given.detections[0];
  }
  given.dataset.images[0].objects = {{Box{0, 0, 10, 10}, 0, false, false, 100}};
  for (auto& image : given.dataset.images) image.objects = given.dataset.images[0].objects;
  for (auto& found : given.detections) found = {{Box{0, 0, 10, 10}, 0, 0.5}, {Box{50, 50, 60, 60}, 0, 0.9}};
  const BootstrapResult got = bootstrap_metrics(given.dataset, given.detections, {}, 20);
  EXPECT_EQ(got.map->deviation, 0);
  EXPECT_EQ(got.map->low, *voc_metrics(given.dataset, given.detections).map);
  EXPECT_EQ(got.map->high, got.map->low);
  EXPECT_FALSE(got.classes[1].has_value());
  EXPECT_FALSE(got.group_ap.at("rare").has_value());
}

// Every number at its place; what had no value is null.
TEST(Bootstrap, IsTold) {
  BootstrapResult result{.samples = 50, .map = Spread{0.0312, 0.4123, 0.5674}, .classes = {}, .group_ap = {}};
  result.classes = {Spread{0.01, 0.02, 0.03}, std::nullopt};
  result.group_ap = {{"frequent", Spread{0.04, 0.05, 0.06}}, {"rare", std::nullopt}};
  EXPECT_EQ(bootstrap_text(result),
            "mAP@0.5 over 50 samples of these images: standard deviation 0.031, 95 % between 0.412 and 0.567\n");
  EXPECT_EQ(nlohmann::json::parse(bootstrap_json(result, {"a", "b"})), nlohmann::json::parse(R"({
    "samples": 50, "mAP": {"deviation": 0.0312, "low": 0.4123, "high": 0.5674},
    "groups": {"frequent": {"deviation": 0.04, "low": 0.05, "high": 0.06}, "rare": null},
    "classes": {"a": {"deviation": 0.01, "low": 0.02, "high": 0.03}, "b": null}})"));
  result.map.reset();
  EXPECT_EQ(bootstrap_text(result), "");
}

TEST(Bootstrap, RefusesWhatCannotBeEvaluated) {
  Case given = random_case(4, 3);
  EXPECT_THROW((void)bootstrap_metrics(given.dataset, given.detections, {}, 1), std::invalid_argument);
  given.detections[0].push_back({Box{0, 0, 1, 1}, 0, std::nan("")});
  EXPECT_THROW((void)bootstrap_metrics(given.dataset, given.detections, {}, 2), std::invalid_argument);
}

TEST(Bootstrap, AnEmptySplitHasNoValue) {
  const BootstrapResult got = bootstrap_metrics({}, {}, {}, 2);
  EXPECT_FALSE(got.map.has_value());
}

}  // namespace
}  // namespace gradlibra
