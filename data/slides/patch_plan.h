// SPDX-License-Identifier: MIT
// What patches a set of slides gives, and what each holds: all of it is known before a pixel is read.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/datasets/split_dataset.h"
#include "data/slides/patch_grid.h"
#include "data/slides/slide_set.h"

namespace gradlibra {

struct PatchOptions {
  int size = 512;     // side of a patch
  int overlap = 128;  // of patches for training and validation; those for testing have none
  Edge edge = Edge::move, test_edge = Edge::pad;
  CutRule cut;
  double val = 0.1, test = 0.3;  // shares of the slides
  std::string splits = "";       // a file that says which slide goes where, instead of the shares
  std::string group_by = "";     // as in DivideOptions, in a slide's name
  int64_t seed = 1;
  // Shares of the patches without a box to train on that are kept. Of testing all are.
  double background = 0, val_background = 1;
  int fill = 255;               // grey value beyond the slide
  std::string format = "coco";  // coco | voc
  std::string image = "png";    // png | jpg
  int jobs = 0;                 // threads; 0: as many as there are processors
  int64_t memory_bytes = 2LL << 30;
};

// One patch, its objects in its own pixels. Ignored ones are `difficult` (or `crowd`, where they were).
struct Patch {
  int x = 0, y = 0;
  std::vector<Object> objects;
};

struct BoxCounts {
  int64_t whole = 0, cut = 0, ignored = 0;
};
struct SlidePlan {
  std::vector<Patch> patches;  // row by row
  int64_t background = 0;      // among them: without a box to train on
  int64_t background_left_out = 0;
  std::vector<BoxCounts> class_boxes;  // by class, in all patches: a box counts once for each patch that has it
  int64_t dropped = 0;                 // remains of boxes that are in no patch's annotations
  int64_t in_no_patch = 0;             // boxes that no patch has but as ignored or dropped remains
};

// A pure function of its arguments; which background is kept depends on seed, slide and place of the patch alone.
// std::runtime_error for a slide of more than kMostPatches places.
[[nodiscard]] SlidePlan plan_slide(const AnnotatedSlide& slide, Split split, size_t classes,
                                   const PatchOptions& options);

// Splits of the slides: those of options.splits, a line "slide split" (or with a comma between) for each slide; else by
// divide(). A split with a share that got no slide takes the smallest group of the split with
// most groups. std::runtime_error if there are fewer groups than splits with a share, or the
// file lacks a slide, names one twice, one that is not there or another split, or divides a group.
[[nodiscard]] Division divide_slides(const SlideSet& set, const PatchOptions& options);

// std::invalid_argument names the option and its range.
void check_options(const PatchOptions& options);

}  // namespace gradlibra
