// SPDX-License-Identifier: MIT
// Detections that were written by `evaluate`, `detect` or another program, read again.
#pragma once

#include <filesystem>

#include "data/metrics/metrics.h"

namespace gradlibra {

// COCO result entries [{image_id, category_id or category, bbox: [x, y, w, h], score}, ..], as coco_results_json()
// writes them, for the images of the data set. A class is told by its name where the entry has one, else by the
// annotation file's id, or by its place in the class list where there is no such file. std::runtime_error names the
// file, and the entry that is of no image or class of the data set, or is none.
[[nodiscard]] Detections read_coco_results(const std::filesystem::path& file, const Dataset& dataset);

}  // namespace gradlibra
