// SPDX-License-Identifier: MIT
// Detections that were written by `evaluate`, `detect` or another program, read again.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "data/metrics/metrics.h"

namespace gradlibra {

// COCO result entries [{image_id, category_id or category, bbox: [x, y, w, h], score}, ..], as coco_results_json()
// writes them, for the images of the data set. A class is told by its name where the entry has one, else by the
// annotation file's id, or by its place in the class list where there is no such file; ids may be written as 2, 2.0 or
// "2". std::runtime_error names the file, and where it is no JSON, or the entry that is of no image or class of the
// data set, is none, or has a key twice. `warn` is told of scores outside of 0 to 1 and of boxes of negative width or
// height, a line for each kind: they are taken, as pycocotools does.
[[nodiscard]] Detections read_coco_results(const std::filesystem::path& file, const Dataset& dataset,
                                           const std::function<void(const std::string&)>& warn = {});

// Empty, or what speaks for boxes that were written as corners: most leave their pictures, and as corners they do not.
[[nodiscard]] std::string corners_hint(const Dataset& dataset, const Detections& detections);

}  // namespace gradlibra
