// SPDX-License-Identifier: MIT
// Recipes of synthetic smears: how clean a slide is, how much its stain varies, how far cytologists agree.
#pragma once

#include <string>
#include <vector>

#include "data/synthetic/synthetic_classes.h"
#include "data/synthetic/synthetic_smear.h"

namespace gradlibra {

// Of the cells that are called `called`, a fraction that is drawn as `looks`: an annotator would not tell them apart.
struct Disagreement {
  CellClass called, looks;
  float fraction = 0;
};

// A recipe never changes once results were published with it: a better one gets a new name.
struct Recipe {
  std::string name;
  int patches_per_slide = 0;  // patches with the stain, focus and soiling of one slide; 0: each patch for itself
  bool crowded = false;       // cells lie over each other, and clutter lies over cells too
  float borderline = 0.1F;    // fraction of cells drawn part of the way towards a class they are mistaken for
  Range blend = {0.25F, 0.5F};
  float overlooked = 0;  // fraction of the cells of inflammation, the most frequent class, that nobody annotated
  std::vector<Disagreement> disagreements;
};

// smears-v1: clean patches, each with a stain of its own, classes that hardly overlap.
// smears-v2: slides that differ in stain, blood, exudate, mucus and focus; cells under and over each other; naked
// smudged nuclei, pale bodies and squames without a nucleus that are not annotated, nor is one in seven of the most
// frequent cells; normal, ASC_US, LSIL, HSIL and SCC (and atrophy, ASC_H, HSIL) from overlapping distributions.
// An unknown name is std::invalid_argument.
[[nodiscard]] const Recipe& find_recipe(const std::string& name);
[[nodiscard]] std::vector<std::string> recipe_names();

// How many of something that there are `mean` of on average: evenly from none to twice that.
[[nodiscard]] int random_count(float mean, Random& random);

// What the patches of one slide share. Amounts are relative to the recipe's mean of 1.
struct SlideStyle {
  Staining staining;
  float blood = 1, exudate = 1, mucus = 1, debris = 1, squames = 1, bacteria = 1;
};
[[nodiscard]] SlideStyle random_slide(Random& random);
// The slide's stain as one of its patches has it: a little lighter or thicker, in focus or not, in parts or all over.
[[nodiscard]] Staining patch_staining(const SlideStyle& slide, Random& random);

// The class that a cell called `called` is drawn as; `scale` multiplies the recipe's disagreements.
[[nodiscard]] CellClass sample_look(const Recipe& recipe, CellClass called, float scale, Random& random);

// Clutter below the cells and above them; `scale` multiplies all amounts.
void draw_clutter_below(Smear& smear, const SlideStyle& slide, float scale, Random& random);
void draw_clutter_above(Smear& smear, const SlideStyle& slide, float scale, Random& random);

}  // namespace gradlibra
