// SPDX-License-Identifier: MIT
// A detector over a data set: detections in original image pixels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "data/metrics/metrics.h"
#include "engine/batches.h"
#include "engine/experiment_config.h"
#include "models/detector.h"

namespace gradlibra {

// Detections of each picture of a batch, in pixels of its original. `device` is memory to use again.
[[nodiscard]] Detections detect_batch(Detector& detector, const Batch& batch, DeviceBatch& device);

// Calls sink(index, detections) for every image of the data set, in order, batch by batch; of several ranks each takes
// the images of every world_size-th batch.
using DetectionSink = std::function<void(size_t image, std::vector<Detection> detections)>;
void detect_each(Detector& detector, const Dataset& dataset, const ExperimentConfig& config, const DetectionSink& sink,
                 int rank = 0, int world_size = 1);

// The same, kept. progress(done, total) after each batch.
[[nodiscard]] Detections detect_dataset(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                                        const std::function<void(int64_t, int64_t)>& progress = {});

// Images that have as many detections as model.test.max_per_image keeps: more may have been left out there.
[[nodiscard]] int64_t images_at_cap(const Detections& detections, const TestConfig& test);

// What a reader of a table should know about limits that were reached, a line each; empty if none was.
[[nodiscard]] std::string limit_notes(const Dataset& dataset, const Detections& detections, const TestConfig& test);

// One object: what is surest about it, and what else was found at its place, the surer first.
struct FoundObject {
  Detection best;
  std::vector<Detection> others;
};
// Detections of at least min_score by object, the surest first. What overlaps a surer detection of another class by
// half or more is about the same object.
[[nodiscard]] std::vector<FoundObject> group_by_object(const std::vector<Detection>& detections, double min_score);

// The image with its detections of at least min_score, as `to` (.png or .jpg): a solid box for each object with its
// classes and scores beside it, or, if wanted, a box for each detection. Known truth is dashed.
enum class Boxes { one_per_object, all };
void draw_detections(const ImageRecord& record, const std::vector<Detection>& detections,
                     const std::vector<std::string>& classes, double min_score, bool apply_exif,
                     const std::filesystem::path& to, Boxes boxes = Boxes::one_per_object);

// Detections as COCO result entries [{image_id, category_id, bbox: [x, y, w, h], score, category}]. Image ids are
// written as numbers where all of them are whole numbers (and were no text in the annotation file), else as strings;
// category_id is the annotation file's id of the class, or its index in the class list where there is no such file.
[[nodiscard]] std::string coco_results_json(const Dataset& dataset, const Detections& detections);

// The same, image by image: after each the file is complete and holds what there is so far. WriteError names the file,
// which then holds the images before.
class CocoResultsFile {
 public:
  CocoResultsFile(const std::filesystem::path& file, const Dataset& dataset);
  ~CocoResultsFile();
  CocoResultsFile(const CocoResultsFile&) = delete;
  CocoResultsFile& operator=(const CocoResultsFile&) = delete;
  void add(size_t image, const std::vector<Detection>& detections);

 private:
  std::filesystem::path path_;
  const Dataset& dataset_;
  bool numeric_;
  int file_ = -1;
  int64_t end_;  // of the last detection
};

}  // namespace gradlibra
