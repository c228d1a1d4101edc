// SPDX-License-Identifier: MIT
// The files of a set of patches, but for the pictures: annotations, lists and the manifest. All are known before a
// pixel is decoded, and the same input gives the same bytes.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/slides/patch_plan.h"

namespace gradlibra {

// What the files are about; nothing here is owned.
struct PatchSet {
  const SlideSet& slides;
  const Division& division;
  const PatchOptions& options;
  std::map<std::string, int64_t> findings;  // of the annotations' reading: "outside_box clipped" and how many
};

// Under the folder of the set: images (COCO), JPEGImages (VOC).
[[nodiscard]] std::filesystem::path picture_folder(const PatchOptions& options);
[[nodiscard]] std::string picture_name(const AnnotatedSlide& slide, const Patch& patch, const PatchOptions& options);

// The VOC annotation of a patch. Whole pixels counted from 1, rounded outwards.
[[nodiscard]] std::string voc_annotation(const PatchSet& set, const AnnotatedSlide& slide, const Patch& patch);

// COCO: annotations/{train,val,test}.json, ids running through all splits, boxes to a thousandth of a pixel, each image
// with its `slide`, `x` and `y`. VOC: ImageSets/Main/{train,val,test}.txt and classes.yaml. A split without a share is
// not written.
void write_annotations(const PatchSet& set, const std::filesystem::path& folder);
// Their names under `folder`.
[[nodiscard]] std::vector<std::filesystem::path> annotation_files(const PatchSet& set);

// Counts of all slides of a split.
struct SplitCounts {
  int64_t slides = 0, groups = 0, patches = 0, background = 0, background_left_out = 0, dropped = 0, in_no_patch = 0;
  std::vector<BoxCounts> class_boxes;
};
struct PatchSummary {
  std::array<SplitCounts, 3> splits;
  std::vector<std::string> warnings;  // classes that a split lacks, boxes that no patch has, slides left out
  std::string manifest;               // the text of patches.json, with hashes of slides and annotations
  std::string table;                  // for a person
};
// ReadError names a slide whose bytes cannot be read.
[[nodiscard]] PatchSummary summarize(const PatchSet& set);

}  // namespace gradlibra
