// SPDX-License-Identifier: MIT
// From what annotation files say to a dataset.
#include "data/datasets/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/yolo_description.h"
#include "data/images/image.h"
#include "runtime/base/processors.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

// What a look at the image file gave.
struct Probe {
  ImageInfo info;
  std::string error;
};

std::vector<Probe> probe_images(const std::vector<RawImage>& images, const ReadOptions& options) {
  std::vector<Probe> probes(images.size());
  std::atomic<size_t> next{0}, done{0};
  const auto work = [&] {
    for (size_t i = next++; i < images.size(); i = next++) {
      if (images[i].usable && !images[i].path.empty()) {
        try {
          if (options.decode)
            static_cast<void>(read_image(images[i].path, false, probes[i].info));
          else
            probes[i].info = read_image_info(images[i].path);
        } catch (const std::exception& error) {
          probes[i].error = error.what();
        }
      }
      const size_t finished = ++done;
      if (options.progress) options.progress(static_cast<int64_t>(finished), static_cast<int64_t>(images.size()));
    }
  };
  const size_t threads = std::min(static_cast<size_t>(usable_processors()), images.size() / 8 + 1);
  std::vector<std::jthread> pool;
  for (size_t t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  pool.clear();  // joins
  return probes;
}

// The class list of a run. A COCO file of another split might lack a category, which would shift every label: the
// training file decides.
std::vector<std::string> class_list(const DatasetConfig& config, Split split, const RawSplit& raw) {
  if (!config.classes.empty()) return config.classes;
  if (config.format == "voc") {
    throw std::runtime_error(fmt::format("data.classes is empty: a VOC data set needs its class list. {} names: [{}]",
                                         split_file(config, split).string(), fmt::join(raw.classes, ", ")));
  }
  if (config.format == "yolo") {
    std::vector<std::string> classes = read_yolo_classes(config);
    if (!classes.empty()) return classes;
    throw std::runtime_error(fmt::format(
        "data.classes is empty: a YOLO data set needs its class list, in the configuration or as `names` of {}",
        (fs::path(config.root) / "data.yaml").string()));
  }
  if (split != Split::train && !config.train.empty()) {
    try {
      return read_coco_classes(split_file(config, Split::train));
    } catch (
        const std::runtime_error&) {  // evaluation where the training file is not at hand: the split's own categories
    }
  }
  if (raw.classes.empty())
    throw std::runtime_error(split_file(config, split).string() + ": has no categories, and data.classes is empty");
  return raw.classes;
}

void check_classes(const DatasetConfig& config, const std::vector<std::string>& classes) {
  std::set<std::string> known;
  for (const std::string& name : classes) {
    if (find_invalid_utf8(name) != std::string::npos)
      throw std::runtime_error(
          fmt::format("data.classes: '{}' is not UTF-8: save the file that has it as UTF-8", escaped(name)));
    if (trim(name).empty()) throw std::runtime_error("data.classes: a name is empty");
    if (escaped(name) != name)
      throw std::runtime_error(fmt::format("data.classes: '{}' holds a control character", escaped(name)));
    if (!known.insert(std::string(trim(name))).second)
      throw std::runtime_error(
          fmt::format("data.classes names '{}' twice: [{}]", trim(name), fmt::join(classes, ", ")));
  }
  std::map<std::string, std::string> group_of;
  for (const auto& [group, members] : config.groups) {
    for (const std::string& name : members) {
      if (!known.contains(std::string(trim(name)))) {
        throw std::runtime_error(fmt::format("data.groups.{}: class '{}' is not among the classes [{}]{}", group, name,
                                             fmt::join(classes, ", "), did_you_mean(name, classes)));
      }
      if (const auto [other, fresh] = group_of.emplace(name, group); !fresh) {
        throw std::runtime_error(
            fmt::format("data.groups: class '{}' is in both '{}' and '{}'", name, other->second, group));
      }
    }
  }
}

void note_unused_classes(const DatasetConfig& config, Split split, const RawSplit& raw,
                         const std::vector<std::string>& classes, FindingLog& log) {
  for (const std::string& name : classes) {
    const auto same = [&](const std::string& other) { return trim(other) == trim(name); };
    if (std::any_of(raw.classes.begin(), raw.classes.end(), same)) continue;
    log.note({Kind::unknown_class, Action::none, split_file(config, split).string(), "",
              fmt::format("class '{}' of data.classes {}; the file knows [{}]{}", name,
                          config.format == "coco" ? "is not among the categories" : "has no object in this split",
                          escaped(fmt::format("{}", fmt::join(raw.classes, ", "))), did_you_mean(name, raw.classes))});
  }
}

}  // namespace

void check_units(const Reading& reading, const RawSplit& raw, const fs::path& file) {
  const bool fractions = reading.config.format == "yolo";
  const std::string extension = lower_case(file.extension().string());
  const bool table = extension == ".csv" || extension == ".tsv";  // of slides
  int64_t boxes = 0;
  double largest = 0;
  for (const RawImage& image : raw.images) {
    for (const RawObject& object : image.objects) {
      if (object.unreadable) continue;
      if (object.unit == fractions) return;
      ++boxes;
      largest = std::max({largest, std::abs(object.x2 - object.x1), std::abs(object.y2 - object.y1)});
    }
  }
  if (boxes == 0 || !(largest > 0)) return;
  const std::string message =
      fractions
          ? fmt::format("all numbers of all {} boxes are beyond 1: pixels? YOLO wants fractions of the picture", boxes)
          : fmt::format(
                "all {} boxes lie within 0..1: normalised? {} wants pixels; multiply by the picture's width "
                "and height",
                boxes,
                table                             ? "a table"
                : reading.config.format == "coco" ? "COCO"
                                                  : "VOC");
  reading.log.judge({Kind::normalised_boxes, Action::fatal, file.string(), "", message}, "", kAlwaysError);
}

Dataset read_dataset(const DatasetConfig& config, Split split, FindingLog& log, const ReadOptions& options) {
  if (config.format != "voc" && config.format != "coco" && config.format != "yolo") {
    throw std::runtime_error(fmt::format("data.format is '{}', expected voc, coco or yolo", config.format));
  }
  const bool evaluation = options.evaluation || split != Split::train;
  Reading reading{config, split, evaluation, log};
  RawSplit raw = config.format == "coco"   ? read_coco(reading)
                 : config.format == "yolo" ? read_yolo(reading)
                                           : read_voc(reading);
  Dataset dataset;
  dataset.classes = class_list(config, split, raw);
  dataset.category_ids = raw.category_ids;
  dataset.category_names = raw.category_names;
  dataset.text_ids = raw.text_ids;
  dataset.groups = config.groups;
  check_classes(config, dataset.classes);
  note_unused_classes(config, split, raw, dataset.classes, log);
  check_units(reading, raw, split_file(config, split));

  const std::vector<Probe> probes = probe_images(raw.images, options);
  Checker checker(reading, options.limits, dataset.classes);
  int64_t in_dropped_images = 0;  // boxes that nothing else is wrong with
  for (size_t i = 0; i < raw.images.size(); ++i) {
    ImageRecord record;
    if (!checker.check_image(raw.images[i], probes[i].info, probes[i].error, record)) {
      in_dropped_images += static_cast<int64_t>(raw.images[i].objects.size());
      continue;
    }
    checker.check_objects(raw.images[i], record);
    if (std::none_of(record.objects.begin(), record.objects.end(), is_target)) {
      const bool drop = !evaluation && config.filter_empty;
      log.note(
          {Kind::no_objects, drop ? Action::image_dropped : Action::none, raw.images[i].annotation_file,
           raw.images[i].where,
           fmt::format("image '{}' has no boxes to train on{}{}", record.id,
                       record.objects.empty() ? "" : fmt::format(" but {} difficult or crowd", record.objects.size()),
                       drop ? " (data.filter_empty)" : "")});
      if (drop) {
        in_dropped_images += static_cast<int64_t>(record.objects.size());
        continue;
      }
    }
    dataset.images.push_back(std::move(record));
  }
  int64_t boxes = raw.refused_boxes;
  for (const RawImage& image : raw.images) boxes += static_cast<int64_t>(image.objects.size());
  log.stop_if_fatal(raw.images_listed, boxes);
  dataset.summary = summarize(dataset, in_dropped_images, log.findings(), evaluation);
  return dataset;
}

Dataset read_dataset(const DatasetConfig& config, Split split, std::vector<Finding>& findings,
                     const ReadOptions& options) {
  FindingLog log(findings, FindingLog::OnError::raise);
  return read_dataset(config, split, log, options);
}

}  // namespace gradlibra
