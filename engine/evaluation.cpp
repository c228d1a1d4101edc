// SPDX-License-Identifier: MIT
#include "engine/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/images/image.h"
#include "data/loading/loader.h"
#include "engine/batches.h"

namespace gradlibra {

Detections detect_dataset(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                          const std::function<void(int64_t, int64_t)>& progress) {
  Detections detections(dataset.images.size());
  Loader loader(dataset, config.loader, config.data, LoaderMode::evaluate, {});
  Batch batch;
  DeviceBatch device;
  int64_t done = 0;
  while (next_batch(loader, batch, config.loader.retry_seconds)) {
    upload(detector.context(), batch, device);
    Tape tape(detector.context(), Tape::Mode::inference);
    const auto boxes = detector.detect(tape, detector.normalize(tape, device.images), batch.sizes);
    for (size_t n = 0; n < boxes.size(); ++n) {
      const auto index = static_cast<size_t>(batch.indices[n]);
      const float sx = batch.scale_x[n], sy = batch.scale_y[n];
      for (const ScoredBox& b : boxes[n])
        detections[index].push_back({{b.x1 / sx, b.y1 / sy, b.x2 / sx, b.y2 / sy}, b.label, b.score});
    }
    done += batch.N;
    if (progress) progress(done, static_cast<int64_t>(dataset.images.size()));
  }
  return detections;
}

int64_t images_at_cap(const Detections& detections, const TestConfig& test) {
  if (test.max_per_image <= 0) return 0;
  const auto cap = static_cast<size_t>(test.max_per_image);
  return std::count_if(detections.begin(), detections.end(), [&](const auto& found) { return found.size() >= cap; });
}

std::string limit_notes(const Dataset& dataset, const Detections& detections, const TestConfig& test) {
  constexpr size_t kCocoDetections = 100;  // coco_metrics, per image and class
  std::string text;
  if (const int64_t full = images_at_cap(detections, test); full > 0)
    text += fmt::format(
        " {} of {} images reached model.test.max_per_image = {}: recall and AP may be limited by it; -1 keeps all\n",
        full, detections.size(), test.max_per_image);
  int64_t crowded = 0;
  for (size_t i = 0; i < detections.size(); ++i) {
    std::vector<size_t> found(dataset.classes.size()), truths(dataset.classes.size());
    for (const Detection& d : detections[i]) ++found[static_cast<size_t>(d.label)];
    for (const Object& o : dataset.images[i].objects) ++truths[static_cast<size_t>(o.label)];
    const auto more = [&](const std::vector<size_t>& counts) {
      return std::any_of(counts.begin(), counts.end(), [&](size_t n) { return n > kCocoDetections; });
    };
    crowded += more(found) || more(truths);
  }
  text += fmt::format(" COCO AP counts the surest {} detections of a class in an image (maxDets){}\n", kCocoDetections,
                      crowded > 0 ? fmt::format("; {} images have more detections or objects", crowded) : "");
  return text;
}

void draw_detections(const ImageRecord& record, const std::vector<Detection>& detections,
                     const std::vector<std::string>& classes, double min_score, bool apply_exif,
                     const std::filesystem::path& to) {
  Image image = read_image(record.path, apply_exif);
  for (auto d = detections.rbegin(); d != detections.rend(); ++d) {  // the surest on top
    if (d->score < min_score) continue;
    draw_labelled_box(image, d->box.x1, d->box.y1, d->box.x2, d->box.y2, d->label,
                      fmt::format("{} {:.2f}", classes[static_cast<size_t>(d->label)], d->score));
  }
  write_image(to, image);
}

std::string coco_results_json(const Dataset& dataset, const Detections& detections) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  // A stem such as "007" is not a number: it would come back as 7.
  const auto is_number = [](const ImageRecord& image) {
    const std::string_view id = std::string_view(image.id).substr(image.id.starts_with('-') ? 1 : 0);
    return !id.empty() && id.size() < 18 && (image.id == "0" || id[0] != '0') &&
           std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  // All of one type, or a reader that holds them together by equality finds no picture for some.
  const bool numeric = !dataset.text_ids && std::all_of(dataset.images.begin(), dataset.images.end(), is_number);
  for (size_t i = 0; i < detections.size(); ++i) {
    const std::string& id = dataset.images[i].id;
    for (const Detection& d : detections[i]) {
      nlohmann::ordered_json entry;
      if (numeric) {
        entry["image_id"] = std::stoll(id);
      } else {
        entry["image_id"] = id;
      }
      const std::string& name = dataset.classes[static_cast<size_t>(d.label)];
      const auto category = dataset.category_ids.find(name);
      entry["category_id"] = category == dataset.category_ids.end() ? d.label : category->second;
      entry["bbox"] = {d.box.x1, d.box.y1, d.box.x2 - d.box.x1, d.box.y2 - d.box.y1};
      entry["score"] = d.score;
      entry["category"] = name;
      results.push_back(std::move(entry));
    }
  }
  // Names are checked to be UTF-8 when they are read; whatever comes otherwise must not lose what was computed.
  return results.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace gradlibra
