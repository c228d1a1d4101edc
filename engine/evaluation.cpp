// SPDX-License-Identifier: MIT
#include "engine/evaluation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <string_view>

#include "data/images/image.h"
#include "data/loading/loader.h"
#include "data/metrics/box_overlap.h"
#include "engine/next_batch.h"
#include "runtime/base/files.h"

namespace gradlibra {

Detections detect_batch(Detector& detector, const Batch& batch, DeviceBatch& device) {
  upload(detector.context(), batch, device);
  Tape tape(detector.context(), Tape::Mode::inference);
  const auto boxes = detector.detect(tape, detector.normalize(tape, device.images), batch.sizes);
  Detections found(boxes.size());
  for (size_t n = 0; n < boxes.size(); ++n) {
    const float sx = batch.scale_x[n], sy = batch.scale_y[n];
    for (const ScoredBox& b : boxes[n])
      found[n].push_back({{b.x1 / sx, b.y1 / sy, b.x2 / sx, b.y2 / sy}, b.label, b.score});
  }
  return found;
}

void detect_each(Detector& detector, const Dataset& dataset, const ExperimentConfig& config, const DetectionSink& sink,
                 int rank, int world_size) {
  Loader loader(dataset, config.loader, config.data, LoaderMode::evaluate, {}, rank, world_size);
  Batch batch;
  DeviceBatch device;
  while (next_batch(loader, batch, config.loader.retry_seconds)) {
    Detections found = detect_batch(detector, batch, device);
    for (size_t n = 0; n < found.size(); ++n) sink(static_cast<size_t>(batch.indices[n]), std::move(found[n]));
  }
}

Detections detect_dataset(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                          const std::function<void(int64_t, int64_t)>& progress) {
  Detections detections(dataset.images.size());
  const auto total = static_cast<int64_t>(dataset.images.size()), batch = int64_t{config.loader.batch_size};
  int64_t done = 0;
  detect_each(detector, dataset, config, [&](size_t image, std::vector<Detection> found) {
    detections[image] = std::move(found);
    if (++done % batch != 0 && done != total) return;
    if (progress) progress(done, total);
  });
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
  if (crowded > 0)
    text += fmt::format(" {} of {} images have more than the {} detections or objects of a class that COCO AP counts\n",
                        crowded, detections.size(), kCocoDetections);
  return text;
}

std::vector<FoundObject> group_by_object(const std::vector<Detection>& detections, double min_score) {
  std::vector<Detection> sorted;
  for (const Detection& d : detections)
    if (d.score >= min_score) sorted.push_back(d);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  std::vector<FoundObject> objects;
  for (const Detection& d : sorted) {
    const auto same = std::find_if(objects.begin(), objects.end(), [&](const FoundObject& object) {
      return object.best.label != d.label && box_overlap(object.best.box, d.box) >= 0.5;
    });
    if (same == objects.end())
      objects.push_back({d, {}});
    else
      same->others.push_back(d);
  }
  return objects;
}

void draw_detections(const ImageRecord& record, const std::vector<Detection>& detections,
                     const std::vector<std::string>& classes, double min_score, bool apply_exif,
                     const std::filesystem::path& to, Boxes boxes) {
  const auto name = [&](int label) { return classes[static_cast<size_t>(label)]; };
  const auto named = [&](const Detection& d) { return fmt::format("{} {:.2f}", name(d.label), d.score); };
  const auto boxed = [](const Box& box, int label, std::string text, LineStyle style) {
    return LabelledBox{box.x1, box.y1, box.x2, box.y2, label, std::move(text), style};
  };
  std::vector<LabelledBox> shown;
  for (const FoundObject& object : group_by_object(detections, min_score)) {
    std::string text = named(object.best);
    for (const Detection& other : object.others)
      if (boxes == Boxes::one_per_object) text += ", " + named(other);
    shown.push_back(boxed(object.best.box, object.best.label, text, LineStyle::solid));
    for (const Detection& other : object.others)
      if (boxes == Boxes::all) shown.push_back(boxed(other.box, other.label, named(other), LineStyle::solid));
  }
  for (const Object& truth : record.objects)
    shown.push_back(boxed(truth.box, truth.label, name(truth.label), LineStyle::dashed));
  Image image = read_image(record.path, apply_exif);
  draw_labelled_boxes(image, shown);
  write_image(to, image);
}

namespace {

// A stem such as "007" is not a number: it would come back as 7.
bool is_number(const std::string& text) {
  const std::string_view id = std::string_view(text).substr(text.starts_with('-') ? 1 : 0);
  return !id.empty() && id.size() < 18 && (text == "0" || id[0] != '0') &&
         std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// All of one type, or a reader that holds them together by equality finds no picture for some.
bool all_numbers(const Dataset& dataset) {
  return !dataset.text_ids && std::all_of(dataset.images.begin(), dataset.images.end(),
                                          [](const ImageRecord& image) { return is_number(image.id); });
}

nlohmann::ordered_json result_entry(const Dataset& dataset, const std::string& id, bool numeric, const Detection& d) {
  nlohmann::ordered_json entry;
  if (numeric)
    entry["image_id"] = std::stoll(id);
  else
    entry["image_id"] = id;
  const std::string& name = dataset.classes[static_cast<size_t>(d.label)];
  const auto category = dataset.category_ids.find(name);
  entry["category_id"] = category == dataset.category_ids.end() ? d.label : category->second;
  entry["bbox"] = {d.box.x1, d.box.y1, d.box.x2 - d.box.x1, d.box.y2 - d.box.y1};
  entry["score"] = d.score;
  entry["category"] = name;
  return entry;
}

// Names are checked to be UTF-8 when they are read; whatever comes otherwise must not lose what was computed.
std::string text_of(const nlohmann::ordered_json& json) {
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

std::string coco_results_json(const Dataset& dataset, const Detections& detections) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  const bool numeric = all_numbers(dataset);
  for (size_t i = 0; i < detections.size(); ++i)
    for (const Detection& d : detections[i]) results.push_back(result_entry(dataset, dataset.images[i].id, numeric, d));
  return text_of(results) + "\n";
}

namespace {

constexpr std::string_view kBegin = "[", kEnd = "\n]\n";

// Whether all of it stands there; else errno says why not.
bool write_at(int file, std::string_view text, int64_t at) {
  while (!text.empty()) {
    const ssize_t written = ::pwrite(file, text.data(), text.size(), at);
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
    at += written;
  }
  return true;
}

}  // namespace

CocoResultsFile::CocoResultsFile(const std::filesystem::path& file, const Dataset& dataset)
    : path_(file), dataset_(dataset), numeric_(all_numbers(dataset)), end_(static_cast<int64_t>(kBegin.size())) {
  write_file(path_, std::string(kBegin) + std::string(kEnd));  // what was there before stays if there is no room
  file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (file_ < 0) throw WriteError(file_failure("cannot write", path_, errno));
}

CocoResultsFile::~CocoResultsFile() { ::close(file_); }

void CocoResultsFile::add(size_t image, const std::vector<Detection>& detections) {
  constexpr auto kBeginBytes = static_cast<int64_t>(kBegin.size()), kEndBytes = static_cast<int64_t>(kEnd.size());
  std::string text;
  for (const Detection& d : detections)
    text += (end_ == kBeginBytes && text.empty() ? "\n" : ",\n") +
            text_of(result_entry(dataset_, dataset_.images[image].id, numeric_, d));
  if (text.empty()) return;
  const auto bytes = static_cast<int64_t>(text.size());
  text += kEnd;
  const std::string_view whole = text;
  // The end of the list so far is written over last: where there is no room, it is there already.
  if (!write_at(file_, whole.substr(kEnd.size()), end_ + kEndBytes) ||
      !write_at(file_, whole.substr(0, kEnd.size()), end_)) {
    const int error = errno;
    const bool whole_again = write_at(file_, kEnd, end_) && ::ftruncate(file_, end_ + kEndBytes) == 0;
    throw WriteError(file_failure("cannot write", path_, error) +
                     (whole_again ? "; it holds the images before" : "; it ends in the middle of a detection"));
  }
  end_ += bytes;
}

}  // namespace gradlibra
