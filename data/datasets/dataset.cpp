// SPDX-License-Identifier: MIT
// From what annotation files say to a dataset: images and boxes are checked, put right or dropped, and every case is
// reported.
#include "data/datasets/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>
#include <tuple>

#include "data/datasets/annotations.h"
#include "data/images/image.h"
#include "runtime/base/processors.h"

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

std::vector<Probe> probe_images(const std::vector<RawImage>& images, bool decode) {
  std::vector<Probe> probes(images.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < images.size(); i = next++) {
      if (!images[i].usable || images[i].path.empty()) continue;
      try {
        probes[i].info = read_image_info(images[i].path);
        if (decode) static_cast<void>(read_image(images[i].path));
      } catch (const std::exception& error) {
        probes[i].error = error.what();
      }
    }
  };
  const size_t threads = std::min(static_cast<size_t>(usable_processors()), images.size() / 8 + 1);
  std::vector<std::jthread> pool;
  for (size_t t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  pool.clear();  // joins
  return probes;
}

const char* extension_of(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg:
      return "JPEG";
    case ImageFormat::png:
      return "PNG";
    case ImageFormat::bmp:
      return "BMP";
  }
  return "";
}

class Checker {
 public:
  Checker(const DatasetConfig& config, Split split, const std::vector<std::string>& classes, FindingLog& log)
      : config_(config), policy_(bad_image_policy(config, split)), log_(log) {
    for (size_t c = 0; c < classes.size(); ++c) labels_.emplace(classes[c], static_cast<int>(c));
  }

  // False: the image is dropped.
  bool check_image(const RawImage& raw, const Probe& probe, ImageRecord& record) {
    if (!raw.usable) return false;
    if (raw.path.empty()) {
      log_.judge({Kind::missing_image, Action::image_dropped, raw.annotation_file, raw.where,
                  fmt::format("no image for id '{}' in {}", raw.id, image_folder(config_).string())},
                 "bad_image", policy_);
      return false;
    }
    const std::string file = raw.path.string();
    if (!probe.error.empty()) {
      std::string why = probe.error;
      if (why.starts_with(file + ": ")) why.erase(0, file.size() + 2);
      log_.judge({Kind::unreadable_image, Action::image_dropped, file, "", why}, "bad_image", policy_);
      return false;
    }
    const ImageInfo& info = probe.info;
    if (format_by_name(raw.path) != info.format) {
      log_.note({Kind::wrong_extension, Action::none, file, "",
                 fmt::format("holds a {}; it is read as that", extension_of(info.format))});
    }
    const bool apply = config_.exif == "apply", quarter_turn = info.exif_orientation >= 5;
    if (info.exif_orientation != 1) {
      log_.note({Kind::exif_rotation, apply ? Action::fixed : Action::none, file, "",
                 fmt::format("EXIF orientation {}: {} (data.exif = {})", info.exif_orientation,
                             apply ? "the pixels are turned upright" : "ignored, pixels as stored", config_.exif)});
    }
    record.id = raw.id;
    record.path = raw.path;
    record.width = apply && quarter_turn ? info.height : info.width;
    record.height = apply && quarter_turn ? info.width : info.height;
    if (raw.width != 0 && (raw.width != record.width || raw.height != record.height)) {
      std::string message = fmt::format("annotated as {} x {}, but {} is {} x {}", raw.width, raw.height, file,
                                        record.width, record.height);
      if (quarter_turn && raw.width == record.height && raw.height == record.width) {
        message += fmt::format("; the boxes were drawn with the EXIF orientation {}: set data.exif to '{}'",
                               apply ? "ignored" : "applied", apply ? "ignore" : "apply");
      }
      const std::string& where = raw.size_where.empty() ? raw.where : raw.size_where;
      log_.judge({Kind::size_mismatch, Action::image_dropped, raw.annotation_file, where, message}, "bad_image",
                 policy_);
      return false;
    }
    return true;
  }

  void check_objects(const RawImage& raw, ImageRecord& record) {
    std::set<std::tuple<int, float, float, float, float>> seen;
    for (const RawObject& object : raw.objects) {
      const auto label = labels_.find(object.class_name);
      if (label == labels_.end()) {
        log_.judge({Kind::unknown_class, Action::object_dropped, raw.annotation_file, object.where,
                    fmt::format("class '{}' is not in data.classes", object.class_name)},
                   "unknown_class", config_.unknown_class);
        continue;
      }
      Object out;
      if (!check_box(raw, object, record, out.box)) continue;
      out.label = label->second;
      out.difficult = object.difficult;
      out.crowd = object.crowd;
      out.area = object.area.value_or(static_cast<double>(out.box.x2 - out.box.x1) * (out.box.y2 - out.box.y1));
      if (!seen.insert({out.label, out.box.x1, out.box.y1, out.box.x2, out.box.y2}).second) {
        log_.note({Kind::duplicate_box, Action::none, raw.annotation_file, object.where,
                   fmt::format("'{}' {} is there already; both are kept", object.class_name, object.spelled)});
      }
      record.objects.push_back(out);
    }
  }

 private:
  // Finite, right way round, inside the image, not empty; in this order. False: the object is dropped.
  bool check_box(const RawImage& raw, const RawObject& object, const ImageRecord& record, Box& box) {
    const std::string name = fmt::format("'{}' {}", object.class_name, object.spelled);
    const auto drop = [&](Kind kind, const char* what) {
      log_.judge({kind, Action::object_dropped, raw.annotation_file, object.where, name + what}, "bad_box",
                 config_.bad_box);
      return false;
    };
    double x1 = object.x1, y1 = object.y1, x2 = object.x2, y2 = object.y2;
    if (!std::isfinite(x1) || !std::isfinite(y1) || !std::isfinite(x2) || !std::isfinite(y2)) {
      return drop(Kind::not_finite, " has a coordinate that is not a finite number");
    }
    if (x1 > x2 || y1 > y2) {
      log_.note(
          {Kind::swapped_box, Action::fixed, raw.annotation_file, object.where, name + " has its corners swapped"});
      if (x1 > x2) std::swap(x1, x2);
      if (y1 > y2) std::swap(y1, y2);
    }
    if (x1 == x2 || y1 == y2)
      return drop(Kind::empty_box, x1 == x2 && y1 == y2 ? " has no width and no height"
                                   : x1 == x2           ? " has no width"
                                                        : " has no height");
    const double right = record.width - raw.inset, bottom = record.height - raw.inset;
    if (x1 >= right || y1 >= bottom || x2 <= 0 || y2 <= 0) {
      return drop(Kind::outside_box,
                  fmt::format(" lies outside the image of {} x {}", record.width, record.height).c_str());
    }
    constexpr double kRounding = 1e-6;  // relative: x + width of decimal fractions misses the border by some last bits
    const double slack_x = kRounding * record.width, slack_y = kRounding * record.height;
    if (x1 < -slack_x || y1 < -slack_y || x2 > right + slack_x || y2 > bottom + slack_y) {
      log_.note({Kind::outside_box, Action::clipped, raw.annotation_file, object.where,
                 name + fmt::format(" leaves the image of {} x {}", record.width, record.height)});
    }
    box = {static_cast<float>(std::max(x1, 0.0)), static_cast<float>(std::max(y1, 0.0)),
           static_cast<float>(std::min(x2, right)), static_cast<float>(std::min(y2, bottom))};
    if (!(box.x1 < box.x2 && box.y1 < box.y2))
      return drop(Kind::empty_box, " is thinner than single precision can tell");
    return true;
  }

  const DatasetConfig& config_;
  const std::string policy_;
  FindingLog& log_;
  std::map<std::string, int> labels_;
};

bool is_target(const Object& object) { return !object.difficult && !object.crowd; }

// The class list of a run. A COCO file of another split might lack a category, which would shift every label: the
// training file decides.
std::vector<std::string> class_list(const DatasetConfig& config, Split split, const RawSplit& raw) {
  if (!config.classes.empty()) return config.classes;
  if (config.format == "voc") {
    throw std::runtime_error(fmt::format("data.classes is empty: a VOC data set needs its class list. {} names: [{}]",
                                         split_file(config, split).string(), fmt::join(raw.classes, ", ")));
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
  const std::set<std::string> known(classes.begin(), classes.end());
  if (known.size() != classes.size())
    throw std::runtime_error(fmt::format("data.classes names a class twice: [{}]", fmt::join(classes, ", ")));
  std::map<std::string, std::string> group_of;
  for (const auto& [group, members] : config.groups) {
    for (const std::string& name : members) {
      if (!known.contains(name)) {
        throw std::runtime_error(fmt::format("data.groups.{}: class '{}' is not among the classes [{}]", group, name,
                                             fmt::join(classes, ", ")));
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
    if (std::find(raw.classes.begin(), raw.classes.end(), name) != raw.classes.end()) continue;
    log.note({Kind::unknown_class, Action::none, split_file(config, split).string(), "",
              fmt::format("class '{}' of data.classes {}; the file knows [{}]", name,
                          config.format == "coco" ? "is not among the categories" : "has no object in this split",
                          fmt::join(raw.classes, ", "))});
  }
}

}  // namespace

Dataset read_dataset(const DatasetConfig& config, Split split, FindingLog& log, bool decode) {
  if (config.format != "voc" && config.format != "coco") {
    throw std::runtime_error(fmt::format("data.format is '{}', expected voc or coco", config.format));
  }
  RawSplit raw = config.format == "coco" ? read_coco(config, split, log) : read_voc(config, split, log);
  Dataset dataset;
  dataset.classes = class_list(config, split, raw);
  dataset.category_ids = raw.category_ids;
  dataset.groups = config.groups;
  check_classes(config, dataset.classes);
  note_unused_classes(config, split, raw, dataset.classes, log);

  const std::vector<Probe> probes = probe_images(raw.images, decode);
  Checker checker(config, split, dataset.classes, log);
  for (size_t i = 0; i < raw.images.size(); ++i) {
    ImageRecord record;
    if (!checker.check_image(raw.images[i], probes[i], record)) continue;
    checker.check_objects(raw.images[i], record);
    if (std::none_of(record.objects.begin(), record.objects.end(), is_target)) {
      const bool drop = split == Split::train && config.filter_empty;
      log.note({Kind::no_objects, drop ? Action::image_dropped : Action::none, raw.images[i].annotation_file,
                raw.images[i].where,
                fmt::format("image '{}' has no boxes to train on{}", record.id, drop ? " (data.filter_empty)" : "")});
      if (drop) continue;
    }
    dataset.images.push_back(std::move(record));
  }
  return dataset;
}

Dataset read_dataset(const DatasetConfig& config, Split split, std::vector<Finding>& findings, bool decode) {
  FindingLog log(findings, FindingLog::OnError::raise);
  return read_dataset(config, split, log, decode);
}

}  // namespace gradlibra
