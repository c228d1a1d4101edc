// SPDX-License-Identifier: MIT
// The recipes' numbers and the clutter of a soiled slide.
#include "data/synthetic/synthetic_recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>

namespace gradlibra {

namespace {

const std::vector<Recipe>& recipes() {
  // The disagreements follow what the literature on the reproducibility of cervical cytology reports: the borderline
  // categories (ASC_US, ASC_H) agree worst, and neighbours on the scale from normal to cancer are taken for each other.
  static const std::vector<Recipe> all = {
      {.name = "smears-v1"},
      {.name = "smears-v2",
       .patches_per_slide = 20,
       .crowded = true,
       .borderline = 0.35F,
       .blend = {0.2F, 0.6F},
       .overlooked = 0.15F,
       .disagreements = {{kInflammation, kNormal, 0.05F},
                         {kInflammation, kAscUs, 0.02F},
                         {kNormal, kInflammation, 0.08F},
                         {kNormal, kAscUs, 0.02F},
                         {kHsil, kAscH, 0.12F},
                         {kHsil, kScc, 0.07F},
                         {kHsil, kAtrophy, 0.03F},
                         {kHsil, kLsil, 0.04F},
                         {kAtrophy, kAscH, 0.01F},
                         {kScc, kHsil, 0.65F},
                         {kScc, kAscH, 0.10F},
                         {kLsil, kAscUs, 0.10F},
                         {kLsil, kNormal, 0.03F},
                         {kLsil, kHsil, 0.02F},
                         {kAscUs, kNormal, 0.25F},
                         {kAscUs, kInflammation, 0.15F},
                         {kAscUs, kLsil, 0.12F},
                         {kAscH, kHsil, 0.60F},
                         {kAscH, kAtrophy, 0.20F}}},
  };
  return all;
}

float random_amount(Random& random) {  // mean 1: most slides have little, a few have much
  const float u = random.uniform();
  return 3 * u * u;
}

Density varied(Density d, float spread, float level_spread, Random& random) {
  const float level = random.uniform(1 - level_spread, 1 + level_spread);
  const float r = random.uniform(1 - spread, 1 + spread), g = random.uniform(1 - spread, 1 + spread),
              b = random.uniform(1 - spread, 1 + spread);
  return {d.r * level * r, d.g * level * g, d.b * level * b};
}

}  // namespace

int random_count(float mean, Random& random) {
  const float spread = random.uniform(), rounding = random.uniform();
  return static_cast<int>(mean * 2 * spread + rounding);
}

const Recipe& find_recipe(const std::string& name) {
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name) return recipe;
  }
  throw std::invalid_argument(
      fmt::format("synthesize: recipe is \"{}\", expected one of {}", name, fmt::join(recipe_names(), ", ")));
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) names.push_back(recipe.name);
  return names;
}

SlideStyle random_slide(Random& random) {
  SlideStyle slide;
  Staining& s = slide.staining;
  s = random_staining(random);
  // Laboratories differ far more than patches of one slide do.
  for (Density* dye : {&s.chromatin, &s.cyan, &s.pink, &s.orange}) *dye = varied(*dye, 0.12F, 0.22F, random);
  const float tint = random.uniform(-0.03F, 0.03F);  // warm or cold lamp
  s.white[0] *= 1 + tint;
  s.white[2] *= 1 - tint;
  s.defocus = random.uniform(0.4F, 0.9F);
  slide.blood = random_amount(random);
  slide.exudate = random_amount(random);
  slide.mucus = random_amount(random);
  slide.debris = random_amount(random);
  slide.squames = random_amount(random);
  slide.bacteria = random_amount(random);
  return slide;
}

Staining patch_staining(const SlideStyle& slide, Random& random) {
  Staining s = slide.staining;
  for (Density* dye : {&s.chromatin, &s.cyan, &s.pink, &s.orange}) *dye = varied(*dye, 0.03F, 0.08F, random);
  const Vec direction = random_direction(random);
  const float fall = random.uniform(0, 0.09F);
  s.tilt = {direction.x * fall, direction.y * fall};
  s.defocus *= random.uniform(0.85F, 1.3F);
  // The smear is thicker than the depth of focus: in two patches of five a part lies out of focus.
  if (random.chance(0.4F)) {
    s.far_defocus = s.defocus + random.uniform(1.2F, 2.8F);
    s.far_level = random.uniform(-0.5F, 0.35F);
  }
  return s;
}

CellClass sample_look(const Recipe& recipe, CellClass called, float scale, Random& random) {
  float u = random.uniform();
  for (const Disagreement& d : recipe.disagreements) {
    if (d.called != called) continue;
    const float fraction = std::min(d.fraction * scale, 0.9F);
    if (u < fraction) return d.looks;
    u -= fraction;
  }
  return called;
}

void draw_clutter_below(Smear& smear, const SlideStyle& slide, float scale, Random& random) {
  const float field = smear.field(), area = scale * field * field / (512.0F * 512.0F);
  const auto anywhere = [&] {
    const float x = random.uniform(0, field), y = random.uniform(0, field);
    return Vec{x, y};
  };
  for (int n = random_count(4 * slide.mucus * area, random); n > 0; --n) smear.draw_strand(random);
  for (int n = random_count(7 * slide.squames * area, random); n > 0; --n) smear.draw_squame(anywhere(), random);
  for (int n = random_count(4 * slide.squames * area, random); n > 0; --n) smear.draw_fragment(anywhere(), random);
  for (int n = random_count(3 * area, random); n > 0; --n) smear.draw_pale_body(anywhere(), random);
  for (int n = random_count(1.5F * area, random); n > 0; --n) smear.draw_smudge(anywhere(), random);
  for (int n = random_count(25 * slide.debris * area, random); n > 0; --n) smear.draw_speck(anywhere(), random);
  for (int n = random_count(14 * slide.blood * area, random); n > 0; --n) smear.draw_blood_cell(anywhere(), random);
  for (int n = random_count(2 * slide.bacteria * area, random); n > 0; --n) smear.draw_bacteria(anywhere(), random);
}

void draw_clutter_above(Smear& smear, const SlideStyle& slide, float scale, Random& random) {
  const float field = smear.field(), area = scale * field * field / (512.0F * 512.0F);
  const auto anywhere = [&] {
    const float x = random.uniform(0, field), y = random.uniform(0, field);
    return Vec{x, y};
  };
  for (int n = random_count(1.5F * slide.squames * area, random); n > 0; --n) smear.draw_squame(anywhere(), random);
  for (int n = random_count(12 * slide.exudate * area, random); n > 0; --n) smear.draw_neutrophil(anywhere(), random);
  // Exudate: neutrophils in clumps that hide what lies below.
  for (int n = random_count(1.0F * slide.exudate * area, random); n > 0; --n) {
    const Vec centre = anywhere();
    const float spread = random.uniform(14, 34);
    for (int k = random.between(8, 36); k > 0; --k) {
      const float x = spread * random.bell(), y = spread * random.bell();
      smear.draw_neutrophil({centre.x + x, centre.y + y}, random);
    }
  }
  // Blood in sheets.
  if (random.chance(std::min(0.6F, 0.15F * slide.blood))) {
    const Vec centre = anywhere();
    const float spread = random.uniform(30, 90);
    for (int k = static_cast<int>(scale * static_cast<float>(random.between(12, 60))); k > 0; --k) {
      const float x = spread * random.bell(), y = spread * random.bell();
      smear.draw_blood_cell({centre.x + x, centre.y + y}, random);
    }
  }
  for (int n = random_count(1.2F * slide.mucus * area, random); n > 0; --n) smear.draw_strand(random);
}

}  // namespace gradlibra
