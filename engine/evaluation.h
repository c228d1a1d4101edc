// SPDX-License-Identifier: MIT
// A detector over a data set: detections in original image pixels.
#pragma once

#include <functional>

#include "data/metrics/metrics.h"
#include "engine/experiment.h"
#include "models/detector.h"

namespace gradlibra {

// Runs the detector over every image of the data set, in order. progress(done, total) after each batch.
[[nodiscard]] Detections detect_dataset(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                                        const std::function<void(int64_t, int64_t)>& progress = {});

// Images that have as many detections as model.test.max_per_image keeps: more may have been left out there.
[[nodiscard]] int64_t images_at_cap(const Detections& detections, const TestConfig& test);

// What a reader of a table should know about limits that were reached, a line each; the last says what COCO AP counts.
[[nodiscard]] std::string limit_notes(const Dataset& dataset, const Detections& detections, const TestConfig& test);

// The image with its detections of at least min_score, class and score written above each box, as `to` (.png or .jpg).
void draw_detections(const ImageRecord& record, const std::vector<Detection>& detections,
                     const std::vector<std::string>& classes, double min_score, bool apply_exif,
                     const std::filesystem::path& to);

// Detections as COCO result entries [{image_id, category_id, bbox: [x, y, w, h], score, category}]. Image ids are
// written as numbers where all of them are whole numbers (and were no text in the annotation file), else as strings;
// category_id is the annotation file's id of the class, or its index in the class list where there is no such file.
[[nodiscard]] std::string coco_results_json(const Dataset& dataset, const Detections& detections);

}  // namespace gradlibra
