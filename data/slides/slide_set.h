// SPDX-License-Identifier: MIT
// A folder of slides and the annotations that belong to them, brought together and checked before a pixel is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/datasets/annotations.h"
#include "data/datasets/dataset.h"

namespace gradlibra {

struct SlideInput {
  std::filesystem::path slides;       // a folder of slides, or one slide
  std::filesystem::path annotations;  // .json: COCO; .csv: a table; a folder: VOC XML files named like the slides
  // Slides that the annotations do not list: error; skip: leave them out; background: they have no cells.
  std::string unannotated = "error";
  int64_t memory_bytes = 2LL << 30;  // for one slide
};

struct AnnotatedSlide {
  std::string name;  // the file's name without extension; characters that file names and lists do not like are '_'
  std::filesystem::path path;
  int width = 0, height = 0;
  std::vector<Object> objects;  // in pixels of the slide
  int64_t memory = 0;           // bytes to read it by rows of patches
};

struct SlideSet {
  std::vector<std::string> classes;
  std::map<std::string, int64_t> category_ids;  // COCO: of the source
  std::vector<AnnotatedSlide> slides;           // by name
  std::string left_out;                         // files of the folder that are no slides; empty: none
  std::vector<std::string> unannotated;         // names of those that were skipped or taken as background
};

// Boxes are put right, clipped to the slide or dropped by the policies of `config` (bad_box, unknown_class, bad_image,
// voc_one_based, classes), each a finding. std::runtime_error before anything is computed, with names: no such folder,
// no slide, two slides of one name, annotations without their slide, a slide without annotations, one that cannot be
// opened or is not of the annotated size, and whatever else is an error under the policies. `rows`: of a patch.
[[nodiscard]] SlideSet read_slides(const DatasetConfig& config, const SlideInput& input, int rows,
                                   std::vector<Finding>& findings);

// The slides of a folder, or the one, by name, and into `left_out` what else the folder holds. std::runtime_error if
// there is none, or two of one name.
[[nodiscard]] std::map<std::string, std::filesystem::path> list_slides(const std::filesystem::path& input,
                                                                       std::string& left_out);

// The name of a slide out of what a file says: without folders, without extension where it is that of a slide.
[[nodiscard]] std::string slide_name(const std::string& text);

// A table with the columns image, class, xmin, ymin, xmax, ymax in any order (others are passed over), separated by
// commas, semicolons or tabs; coordinates in continuous pixels, the first column of pixels being 0 to 1. A line with an
// image and neither class nor numbers lists a slide without cells.
[[nodiscard]] RawSplit read_slide_csv(Reading& reading, const std::filesystem::path& file);

}  // namespace gradlibra
