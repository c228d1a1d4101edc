// SPDX-License-Identifier: MIT
// Synthetic cervical smears: stained cells of the paper's ten classes with a long-tailed distribution, in VOC layout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/images/image.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct SynthesizeConfig {
  int train = 240, val = 40, test = 80;  // patches per split
  int size = 512;                        // side of a patch in pixels
  double scale = 1.0;                    // pixels per unit of cell size: 0.5 draws cells half as large
  double cells_per_patch = 12;           // mean number of annotated cells of a 512 x 512 patch at scale 1
  int64_t seed = 1;
  std::vector<std::string> classes;  // draw cells of these only; empty: all ten
  std::string recipe = "smears-v1";  // data/synthetic/synthetic_recipe.h
  double clutter = 1;                // of smears-v2: amount of blood, exudate, mucus, debris, empty squames
  double disagreement = 1;           // of smears-v2: how often a cell looks like another class than it is called
  void describe(ConfigVisitor& v);
};

// The ten classes in the paper's order and their groups.
[[nodiscard]] const std::vector<std::string>& cervical_classes();
[[nodiscard]] const std::map<std::string, std::vector<std::string>>& cervical_groups();

struct SynthesizedPatch {
  Image image;
  std::vector<Object> objects;
};
// One patch; a pure function of its arguments, the same bytes on every machine (no libm call whose last bit may differ
// decides a pixel). Boxes are whole pixels and tight around the visible part of a cell, its cytoplasm included; around
// the nucleus of a bare nucleus and the body without flagella of a trichomonad; cells of a cluster have a box each.
// Blood cells, neutrophils, mucus, bacteria, debris, smudged chromatin and cytoplasm without a nucleus are not
// annotated. A cell that shows less than half of its box at the border is marked difficult. Classes:
// data/synthetic/synthetic_classes.h.
[[nodiscard]] SynthesizedPatch synthesize_patch(const SynthesizeConfig& config, Split split, int index);

// Writes JPEGImages/*.png, Annotations/*.xml, ImageSets/Main/{train,val,test}.txt and classes.yaml (class list and
// groups) under `root`, in parallel; synthesis.yaml records the configuration. An existing set of the same
// configuration is left alone, but for files it lacks (an interrupted run); one of another configuration, or files that
// synthesize did not write, are std::runtime_error. A value out of range is std::invalid_argument that names the key.
void synthesize(const SynthesizeConfig& config, const std::filesystem::path& root);

}  // namespace gradlibra
