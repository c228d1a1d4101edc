// SPDX-License-Identifier: MIT
// What the description of a YOLO data set (data.yaml) says of its labels.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"

namespace gradlibra {

// Class names out of data.yaml or classes.txt; empty if it has neither. std::runtime_error names file and line of what
// contradicts itself.
[[nodiscard]] std::vector<std::string> read_yolo_classes(const DatasetConfig& config);

// Numbers behind the box in labels of poses: what `kpt_shape: [keypoints, numbers of each]` comes to; 0: there are
// none. std::runtime_error for another form.
[[nodiscard]] size_t read_yolo_keypoint_numbers(const DatasetConfig& config);

}  // namespace gradlibra
