// SPDX-License-Identifier: MIT
// Divides annotated images into training, validation and test splits: whole slides or patients stay together, rare
// classes are shared out first, and the same seed gives the same division.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

struct DivideOptions {
  double val = 0.1, test = 0.2;  // shares of the objects (and images); the rest is for training
  // A regular expression (ECMAScript) whose first group, or whole match, in an image's id names its slide or patient;
  // empty: every image by itself.
  std::string group_by = "";
  uint64_t seed = 1;
};

// Split of each image of a data set (0 train, 1 val, 2 test).
struct Division {
  std::vector<int> split_of;                        // by image
  std::vector<std::string> group_of;                // by image
  std::vector<std::array<int64_t, 3>> class_boxes;  // by class and split
  std::array<int64_t, 3> images{}, groups{};
  std::vector<std::string> warnings;  // classes that a split has to do without
};

// Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011): again and again the class with the fewest
// objects left is taken, and its groups go, largest first, to the split that lacks most of it (one that has none counts
// as lacking one more); ties by what the split lacks in all, then by chance. Images without objects fill up at the end.
// std::invalid_argument: shares that are not within 0..1 or leave nothing for training, a regular expression that is
// none, or an id in which it finds nothing.
[[nodiscard]] Division divide(const Dataset& dataset, const DivideOptions& options);

// The division as files of the data set's format, and their paths: ImageSets/Main/{train,val,test}.txt for VOC;
// annotations/{train,val,test}.json for COCO, each entry as the source has it; {train,val,test}.txt with paths of
// pictures for YOLO. Under `output`; files that are there are an error. An empty split is not written.
[[nodiscard]] std::vector<std::filesystem::path> write_division(const DatasetConfig& config, const Dataset& dataset,
                                                                const Division& division,
                                                                const std::filesystem::path& output);
// A table for a person.
[[nodiscard]] std::string division_text(const Dataset& dataset, const Division& division);

}  // namespace gradlibra
