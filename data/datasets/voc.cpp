// SPDX-License-Identifier: MIT
// PASCAL VOC: a text file lists a split's images, an XML file holds the objects of each.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <pugixml.hpp>
#include <set>
#include <string_view>

#include "data/datasets/annotations.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// The lines of a split file: name and 1-based line number. Blank lines and a byte order mark are skipped.
std::vector<std::pair<std::string, int>> read_list(const fs::path& file) {
  const std::string text = read_file(file, kMaxListBytes);
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  std::vector<std::pair<std::string, int>> names;
  for (int line = 1; !rest.empty(); ++line) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view name = trim(rest.substr(0, end));
    if (!name.empty()) names.emplace_back(name, line);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return names;
}

// A number as people write it; NaN for anything else.
double number(std::string_view text) {
  text = trim(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  if (error != std::errc{} || end != text.data() + text.size()) return std::numeric_limits<double>::quiet_NaN();
  return value;
}

class AnnotationReader {
 public:
  AnnotationReader(const DatasetConfig& config, FindingLog& log, RawImage& image, std::set<std::string>& names)
      : config_(config), log_(log), image_(image), names_(names) {}

  // False if the file cannot be used at all; `why` and `where` then say what to report.
  bool read(const std::string& text, std::string& where, std::string& why) {
    text_ = &text;
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_buffer(text.data(), text.size());
    if (!parsed) {
      where = fmt::format("line {}", line(parsed.offset));
      why = fmt::format("is not XML: {}", parsed.description());
      return false;
    }
    const pugi::xml_node root = document.child("annotation");
    if (!root) {
      why = "has no <annotation> element";
      return false;
    }
    file_name_ = trim(root.child_value("filename"));
    read_size(root.child("size"));
    int index = 0;
    for (const pugi::xml_node object : root.children("object")) read_object(object, index++);
    return true;
  }

  [[nodiscard]] const std::string& file_name() const { return file_name_; }

 private:
  [[nodiscard]] std::ptrdiff_t line(std::ptrdiff_t offset) const {
    const auto end = std::clamp<std::ptrdiff_t>(offset, 0, static_cast<std::ptrdiff_t>(text_->size()));
    return 1 + std::count(text_->begin(), text_->begin() + end, '\n');
  }

  void read_size(const pugi::xml_node size) {
    const double width = number(size.child_value("width")), height = number(size.child_value("height"));
    if (width >= 1 && height >= 1 && width <= kMaxSide && height <= kMaxSide) {
      image_.width = static_cast<int64_t>(width);
      image_.height = static_cast<int64_t>(height);
      image_.size_where = fmt::format("line {}", line(size.offset_debug()));
      return;
    }
    log_.note({Kind::bad_annotation, Action::none, image_.annotation_file,
               size ? fmt::format("line {}", line(size.offset_debug())) : "",
               size ? fmt::format("<size> is {} x {}: the image's own size is used", trim(size.child_value("width")),
                                  trim(size.child_value("height")))
                    : "has no <size>: the image's own size is used"});
  }

  void read_object(const pugi::xml_node node, int index) {
    RawObject object;
    object.where = fmt::format("line {} (object {})", line(node.offset_debug()), index);
    object.class_name = trim(node.child_value("name"));
    object.difficult = number(node.child_value("difficult")) == 1;
    const pugi::xml_node box = node.child("bndbox");
    if (!box || object.class_name.empty()) {
      log_.judge({Kind::bad_annotation, Action::object_dropped, image_.annotation_file, object.where,
                  box ? "object without a <name>" : fmt::format("object '{}' without a <bndbox>", object.class_name)},
                 "bad_box", config_.bad_box);
      return;
    }
    names_.insert(object.class_name);
    object.where = fmt::format("line {} (object {})", line(box.offset_debug()), index);
    const char* keys[4] = {"xmin", "ymin", "xmax", "ymax"};
    double side[4];
    for (int i = 0; i < 4; ++i) {
      const std::string_view text = trim(box.child_value(keys[i]));
      object.spelled += fmt::format("{}{}", i ? ", " : "(", text.empty() ? "missing" : text);
      side[i] = number(text);
    }
    object.spelled += ")";
    if (config_.voc_one_based) {
      if (side[0] == 0 || side[1] == 0) {
        log_.note({Kind::zero_based, Action::clipped, image_.annotation_file, object.where,
                   fmt::format("'{}' {} has a coordinate 0 although voc_one_based is true: if all files count from 0, "
                               "set it to false",
                               object.class_name, object.spelled)});
        side[0] = side[0] == 0 ? 1 : side[0];
        side[1] = side[1] == 0 ? 1 : side[1];
      }
      for (double& v : side) v -= 1;
      image_.inset = 1;
    }
    object.x1 = side[0];
    object.y1 = side[1];
    object.x2 = side[2];
    object.y2 = side[3];
    image_.objects.push_back(std::move(object));
  }

  static constexpr double kMaxSide = 1e9;
  const DatasetConfig& config_;
  FindingLog& log_;
  RawImage& image_;
  std::set<std::string>& names_;
  const std::string* text_ = nullptr;
  std::string file_name_;
};

}  // namespace

RawSplit read_voc(const DatasetConfig& config, Split split, FindingLog& log) {
  RawSplit result;
  const fs::path list = split_file(config, split);
  const std::string policy = bad_image_policy(config, split);
  std::set<std::string> seen, names;
  for (const auto& [name, line] : read_list(list)) {
    const std::string listed = fmt::format("line {}", line);
    if (!seen.insert(name).second) {
      log.note({Kind::duplicate_id, Action::image_dropped, list.string(), listed,
                fmt::format("'{}' is listed twice; it counts once", name)});
      continue;
    }
    RawImage image;
    image.id = name;
    const fs::path file = annotation_folder(config) / (name + ".xml");
    image.annotation_file = file.string();
    AnnotationReader reader(config, log, image, names);
    if (std::error_code status; !fs::exists(file, status)) {
      log.judge({Kind::missing_annotation, Action::image_dropped, list.string(), listed,
                 fmt::format("'{}' has no annotation {}", name, file.string())},
                "bad_image", policy);
      image.usable = false;
    } else {
      std::string text, where, why;
      try {
        text = read_file(file, kMaxXmlBytes);
      } catch (const std::runtime_error& error) {
        why = error.what();
      }
      image.usable = why.empty() && reader.read(text, where, why);
      if (!image.usable)
        log.judge({Kind::bad_annotation, Action::image_dropped, file.string(), where, why}, "bad_image", policy);
    }
    if (image.usable) {
      bool guessed = false;
      image.path =
          find_image(image_folder(config), name, guessed);  // the split names files without extension: no finding
      if (image.path.empty() && !reader.file_name().empty()) {
        image.path = find_image(image_folder(config), reader.file_name(), guessed);
        if (!image.path.empty()) {
          log.note({Kind::guessed_file_name, Action::fixed, file.string(), "",
                    fmt::format("no image '{}.*'; <filename> leads to {}", name, image.path.string())});
        }
      }
    }
    result.images.push_back(std::move(image));
  }
  result.classes.assign(names.begin(), names.end());
  return result;
}

}  // namespace gradlibra
