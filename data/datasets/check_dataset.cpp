// SPDX-License-Identifier: MIT
// Images and objects as annotation files have them, held against pictures, class list and policies: put right, kept,
// dropped or refused, and every case reported.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

}  // namespace

Checker::Checker(Reading& reading, const InputLimits& limits, const std::vector<std::string>& classes)
    : reading_(reading),
      config_(reading.config),
      image_policy_(bad_image_policy(reading.config, reading.evaluation)),
      limits_(limits),
      classes_(classes) {
  for (size_t c = 0; c < classes.size(); ++c) labels_.emplace(trim(classes[c]), static_cast<int>(c));
}

void Checker::note_pixels(const std::string& file, const std::filesystem::path& path, const ImageInfo& info) {
  FindingLog& log = reading_.log;
  if (format_by_name(path) != info.format) {
    log.note({Kind::wrong_extension, Action::none, file, "",
              fmt::format("holds a {}; it is read as that", to_string(info.format))});
  }
  if (info.bits == 16) {
    log.note({Kind::pixel_format, Action::none, file, "",
              "has 16 bits a sample: the upper 8 are used; a camera's 10 or 12 bits in them would be nearly black"});
  }
  if (info.cmyk) {
    log.note({Kind::pixel_format, Action::none, file, "",
              "is in CMYK, as for printing, and is converted without its colour profile: colours will differ"});
  }
  if (info.frames > 1) {
    log.note({Kind::several_frames, Action::none, file, "",
              fmt::format("holds {} frames or pages: the first is used", info.frames)});
  }
  if (info.exif_orientation != 1) {
    const bool apply = config_.exif == "apply";
    log.note({Kind::exif_rotation, apply ? Action::fixed : Action::none, file, "",
              fmt::format("EXIF orientation {}: {} (data.exif = {})", info.exif_orientation,
                          apply ? "the pixels are turned upright" : "ignored, pixels as stored", config_.exif)});
  }
}

bool Checker::check_image(const RawImage& raw, const ImageInfo& info, const std::string& error, ImageRecord& record) {
  FindingLog& log = reading_.log;
  if (!raw.usable) return false;
  if (raw.path.empty()) {
    const std::filesystem::path folder = image_folder(config_, reading_.split);
    const std::string& name = raw.image_name.empty() ? raw.id : raw.image_name;
    log.judge({Kind::missing_image, Action::image_dropped, raw.annotation_file, raw.where,
               fmt::format("no image for id '{}' in {}{}", raw.id, folder.string(),
                           reading_.finder.suggestion(folder, name, config_.root))},
              "bad_image", image_policy_);
    return false;
  }
  const std::string file = raw.path.string();
  if (!error.empty()) {
    std::string why = error;
    if (why.starts_with(file + ": ")) why.erase(0, file.size() + 2);
    log.judge({Kind::unreadable_image, Action::image_dropped, file, "", why}, "bad_image", image_policy_);
    return false;
  }
  note_pixels(file, raw.path, info);
  const bool apply = config_.exif == "apply", quarter_turn = info.exif_orientation >= 5;
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
    } else if (raw.width == record.height && raw.height == record.width) {
      message += "; width and height changed places";
    }
    const std::string& where = raw.size_where.empty() ? raw.where : raw.size_where;
    log.judge({Kind::size_mismatch, Action::image_dropped, raw.annotation_file, where, message}, "bad_image",
              image_policy_);
    return false;
  }
  const auto too_large = [](int size, int limit) { return limit > 0 && size > limit; };
  if (too_large(record.width, limits_.width) || too_large(record.height, limits_.height)) {
    log.judge({Kind::too_large_image, Action::fatal, file, "",
               fmt::format("is {} x {} pixels (width x height), larger than the network input {} x {}: enlarge "
                           "loader.width and loader.height or set loader.resize to fit or stretch",
                           record.width, record.height, limits_.width, limits_.height)},
              "", kAlwaysError);
  }
  if (!reading_.evaluation && std::min(record.width, record.height) < config_.min_size) {
    log.note({Kind::small_image, Action::image_dropped, file, "",
              fmt::format("is {} x {} pixels (width x height): training leaves out what is less wide or high than {} "
                          "(data.min_size)",
                          record.width, record.height, config_.min_size)});
    return false;
  }
  return true;
}

void Checker::check_objects(const RawImage& raw, ImageRecord& record) {
  FindingLog& log = reading_.log;
  std::set<std::tuple<int, float, float, float, float>> seen;
  int64_t targets = 0;
  for (const RawObject& object : raw.objects) {
    const auto label = labels_.find(std::string(trim(object.class_name)));
    if (label == labels_.end()) {
      const bool text = find_invalid_utf8(object.class_name) == std::string::npos;
      log.judge({text ? Kind::unknown_class : Kind::not_utf8, Action::object_dropped, raw.annotation_file, object.where,
                 fmt::format("class '{}' is not in data.classes{}", escaped(object.class_name),
                             text ? did_you_mean(object.class_name, classes_)
                                  : "; it is not UTF-8: save the file as UTF-8, or let it state its encoding")},
                "unknown_class", config_.unknown_class);
      continue;
    }
    Object out;
    out.label = label->second;
    out.difficult = object.difficult;
    out.crowd = object.crowd;
    if (object.unreadable) {
      out.box = kUnmatchable;
    } else if (!check_box(raw, object, record, out)) {
      continue;
    }
    if (!seen.insert({out.label, out.box.x1, out.box.y1, out.box.x2, out.box.y2}).second && out.box != kUnmatchable) {
      log.note({Kind::duplicate_box, Action::none, raw.annotation_file, object.where,
                fmt::format("'{}' {} is there already; both are kept", object.class_name, object.spelled)});
    }
    targets += is_target(out);
    record.objects.push_back(out);
  }
  if (limits_.boxes > 0 && targets > limits_.boxes) {
    log.judge({Kind::too_many_boxes, Action::fatal, record.path.string(), "",
               fmt::format("has {} boxes, more than loader.max_boxes = {}: set that to at least {}", targets,
                           limits_.boxes, targets)},
              "", kAlwaysError);
  }
}

// Finite, right way round, inside the image, not empty; in this order. False: the object is dropped. A truth of an
// evaluation keeps the box that its file gives, inside the picture or not, as the published evaluators have it.
bool Checker::check_box(const RawImage& raw, const RawObject& object, const ImageRecord& record, Object& out) {
  FindingLog& log = reading_.log;
  const std::string name = fmt::format("'{}' {}", object.class_name, object.spelled);
  const auto finding = [&](Kind kind, Action action, const std::string& what) {
    return Finding{kind, action, raw.annotation_file, object.where, name + what};
  };
  // A box that nothing can be learnt from: true if it stays all the same, as a truth that is missed.
  const auto useless = [&](Kind kind, const std::string& what) {
    if (!reading_.evaluation || config_.bad_box == "error") {
      log.judge(finding(kind, Action::object_dropped, what), "bad_box", config_.bad_box);
      return false;
    }
    log.judge(finding(kind, Action::object_dropped, what), "bad_truth", config_.bad_truth == "drop" ? "drop" : "miss");
    return config_.bad_truth != "drop";
  };
  const double unit_x = raw.fractions ? record.width : 1, unit_y = raw.fractions ? record.height : 1;
  double x1 = object.x1 * unit_x, y1 = object.y1 * unit_y, x2 = object.x2 * unit_x, y2 = object.y2 * unit_y;
  if (!std::isfinite(x1) || !std::isfinite(y1) || !std::isfinite(x2) || !std::isfinite(y2)) {
    out.box = kUnmatchable;
    return judge_unreadable(reading_,
                            finding(Kind::not_finite, Action::object_dropped,
                                    fmt::format(" has a coordinate that is not a finite number{}", object.hint)));
  }
  if (x1 > x2 || y1 > y2) {
    log.note(finding(Kind::swapped_box, Action::fixed, " has its corners swapped"));
    if (x1 > x2) std::swap(x1, x2);
    if (y1 > y2) std::swap(y1, y2);
  }
  const double right = record.width - raw.inset, bottom = record.height - raw.inset;
  const auto as_written = [&] {
    out.box = {static_cast<float>(x1), static_cast<float>(y1), static_cast<float>(x2), static_cast<float>(y2)};
    out.area = object.area.value_or((x2 - x1) * (y2 - y1));
  };
  as_written();
  if (x1 == x2 || y1 == y2)
    return useless(Kind::empty_box, x1 == x2 && y1 == y2 ? " has no width and no height"
                                    : x1 == x2           ? " has no width"
                                                         : " has no height");
  if (x1 >= right || y1 >= bottom || x2 <= 0 || y2 <= 0)
    return useless(Kind::outside_box, fmt::format(" lies outside the image of {} x {}", record.width, record.height));
  if (x2 - x1 < 1 || y2 - y1 < 1) {
    log.note(finding(Kind::tiny_box, Action::none,
                     fmt::format(" is {:.3g} x {:.3g} pixels{}", x2 - x1, y2 - y1,
                                 object.unit && !raw.fractions ? ": normalised?" : "")));
  }
  constexpr double kRounding = 1e-6;  // relative: x + width of decimal fractions misses the border by some last bits
  const double slack_x = kRounding * record.width, slack_y = kRounding * record.height;
  if (x1 < -slack_x || y1 < -slack_y || x2 > right + slack_x || y2 > bottom + slack_y) {
    log.note(finding(Kind::outside_box, reading_.evaluation ? Action::none : Action::clipped,
                     fmt::format(" leaves the image of {} x {}{}", record.width, record.height,
                                 reading_.evaluation ? "; an evaluation takes it as it is" : "")));
    if (reading_.evaluation) return true;
  }
  out.box = {static_cast<float>(std::max(x1, 0.0)), static_cast<float>(std::max(y1, 0.0)),
             static_cast<float>(std::min(x2, right)), static_cast<float>(std::min(y2, bottom))};
  out.area = object.area.value_or(static_cast<double>(out.box.x2 - out.box.x1) * (out.box.y2 - out.box.y1));
  if (!(out.box.x1 < out.box.x2 && out.box.y1 < out.box.y2)) {
    as_written();
    return useless(Kind::empty_box, " is thinner than single precision can tell");
  }
  return true;
}

}  // namespace gradlibra
