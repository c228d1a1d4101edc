// SPDX-License-Identifier: MIT
// Recipes of synthetic smears: what smears-v2 promises about slides, clutter and disagreement, and its frozen bytes.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "data/synthetic/synthesize.h"
#include "data/synthetic/synthetic_recipe.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

SynthesizeConfig soiled(int size = 96, double scale = 0.25) {
  SynthesizeConfig config;
  config.recipe = "smears-v2";
  config.size = size;
  config.scale = scale;
  return config;
}

TEST(SyntheticRecipe, UnknownNameListsThoseThereAre) {
  SynthesizeConfig config;
  config.recipe = "smears-v9";
  try {
    (void)synthesize_patch(config, Split::train, 0);
    FAIL() << "accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("smears-v9"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("smears-v1, smears-v2"), std::string::npos);
  }
}

TEST(SyntheticRecipe, KnobsOfOneRecipeAreRefusedByTheOther) {
  SynthesizeConfig config;
  config.clutter = 0.5;
  EXPECT_THROW((void)synthesize_patch(config, Split::train, 0), std::invalid_argument);
  config = soiled();
  config.disagreement = 1.3;
  EXPECT_THROW((void)synthesize_patch(config, Split::train, 0), std::invalid_argument);
  config.disagreement = 1;
  config.clutter = -1;
  EXPECT_THROW((void)synthesize_patch(config, Split::train, 0), std::invalid_argument);
  config.clutter = 1;
  config.classes = {"HSIL", "hsil"};
  EXPECT_THROW((void)synthesize_patch(config, Split::train, 0), std::invalid_argument);
}

// Results were published with these bytes: they never change. A better drawing is a recipe of another name.
TEST(SyntheticRecipe, BytesOfSmearsV2AreFrozen) {
  EXPECT_EQ(testing::hash_bytes(synthesize_patch(soiled(), Split::test, 23).image.pixels), 8680907177644855983ULL);
}

// The set of configs/smears_v2.yaml itself, whose results stand in docs/results: two patches of each split and their
// truths.
TEST(SyntheticRecipe, TheSetOfTheProtocolIsFrozen) {
  SynthesizeConfig config = soiled(256, 0.75);
  config.seed = 20261126;
  config.train = 2000, config.val = 1000, config.test = 2000;
  std::vector<uint8_t> pixels;
  std::string truths;
  for (const Split split : {Split::train, Split::val, Split::test})
    for (const int index : {0, 777}) {
      const SynthesizedPatch patch = synthesize_patch(config, split, index);
      pixels.insert(pixels.end(), patch.image.pixels.begin(), patch.image.pixels.end());
      for (const Object& object : patch.objects)
        truths += std::to_string(object.label) + (object.difficult ? "d " : " ") +
                  std::to_string(std::lround(object.box.x1)) + ' ' + std::to_string(std::lround(object.box.y1)) + ' ' +
                  std::to_string(std::lround(object.box.x2)) + ' ' + std::to_string(std::lround(object.box.y2)) + '\n';
    }
  EXPECT_EQ(testing::hash_bytes(pixels), 2432746329068929969ULL);
  EXPECT_EQ(testing::hash_bytes({truths.begin(), truths.end()}), 17206778954113404746ULL) << truths;
}

TEST(SyntheticRecipe, CellsLookLikeOtherClassesAsOftenAsTheTableSays) {
  const Recipe& recipe = find_recipe("smears-v2");
  constexpr int kDraws = 20000;
  for (const float scale : {0.0F, 0.5F, 1.0F}) {
    for (int called = 0; called < kCellClasses; ++called) {
      Random random(7, {static_cast<uint64_t>(called)});
      std::vector<int> seen(kCellClasses);
      for (int i = 0; i < kDraws; ++i) ++seen[sample_look(recipe, static_cast<CellClass>(called), scale, random)];
      std::vector<double> want(kCellClasses);
      want[called] = 1;
      for (const Disagreement& d : recipe.disagreements) {
        if (d.called != called) continue;
        want[d.looks] += scale * d.fraction;
        want[called] -= scale * d.fraction;
      }
      for (int looks = 0; looks < kCellClasses; ++looks) {
        const double deviation = std::sqrt(want[looks] * (1 - want[looks]) * kDraws) + 1;
        EXPECT_NEAR(seen[looks], want[looks] * kDraws, 4.5 * deviation) << called << " looks " << looks;
      }
    }
  }
  // No class is always drawn as another, and in smears-v1 none ever is.
  std::vector<float> taken(kCellClasses);
  for (const Disagreement& d : recipe.disagreements) taken[d.called] += d.fraction;
  for (const float fraction : taken) EXPECT_LT(fraction, 0.9F);
  EXPECT_TRUE(find_recipe("smears-v1").disagreements.empty());
}

std::vector<double> mean_colour(const Image& image) {
  std::vector<double> sum(3);
  for (size_t i = 0; i < image.pixels.size(); ++i) sum[i % 3] += image.pixels[i];
  for (double& s : sum) s /= static_cast<double>(image.pixels.size()) / 3;
  return sum;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  return std::sqrt(std::pow(a[0] - b[0], 2) + std::pow(a[1] - b[1], 2) + std::pow(a[2] - b[2], 2));
}

TEST(SyntheticRecipe, PatchesOfASlideShareItsStainAndSplitsDoNotShareSlides) {
  const int per_slide = find_recipe("smears-v2").patches_per_slide;
  SynthesizeConfig config = soiled(64, 0.25);
  config.cells_per_patch = 0;
  config.clutter = 0;
  double within = 0, between = 0, across = 0;
  constexpr int kSlides = 12;
  for (int slide = 0; slide < kSlides; ++slide) {
    const auto first = mean_colour(synthesize_patch(config, Split::train, slide * per_slide).image);
    const auto last = mean_colour(synthesize_patch(config, Split::train, (slide + 1) * per_slide - 1).image);
    const auto next = mean_colour(synthesize_patch(config, Split::train, (slide + 1) * per_slide).image);
    const auto other = mean_colour(synthesize_patch(config, Split::test, slide * per_slide).image);
    within += distance(first, last);
    between += distance(last, next);
    across += distance(first, other);
  }
  EXPECT_LT(1.5 * within, between);
  EXPECT_LT(1.5 * within, across);
}

TEST(SyntheticRecipe, ClutterDarkensAndIsNotAnnotated) {
  SynthesizeConfig clean = soiled(), dirty = soiled();
  clean.clutter = 0;
  dirty.clutter = 3;
  double light = 0, dark = 0;
  for (int i = 0; i < 4; ++i) {
    const SynthesizedPatch a = synthesize_patch(clean, Split::train, i), b = synthesize_patch(dirty, Split::train, i);
    ASSERT_EQ(a.objects.size(), b.objects.size());
    for (size_t k = 0; k < a.objects.size(); ++k) EXPECT_EQ(a.objects[k].box, b.objects[k].box);
    for (const uint8_t v : a.image.pixels) light += v;
    for (const uint8_t v : b.image.pixels) dark += v;
  }
  EXPECT_LT(dark, 0.97 * light);
}

TEST(SyntheticRecipe, AListOfClassesLeavesTheOthersOut) {
  for (const char* recipe : {"smears-v1", "smears-v2"}) {
    SynthesizeConfig config = soiled();
    config.recipe = recipe;
    config.classes = {"normal", "HSIL"};
    std::set<int> seen;
    for (int i = 0; i < 12; ++i) {
      for (const Object& object : synthesize_patch(config, Split::train, i).objects) seen.insert(object.label);
    }
    EXPECT_EQ(seen, (std::set<int>{kNormal, kHsil})) << recipe;
  }
}

}  // namespace
}  // namespace gradlibra
