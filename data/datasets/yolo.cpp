// SPDX-License-Identifier: MIT
// YOLO: one text file per image, a line per object: class index, centre x, centre y, width, height as fractions of the
// picture; or class index and the corners of a polygon. A picture without a file is background.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

constexpr int64_t kMaxLabelBytes = 64LL << 20;  // of one picture
constexpr int64_t kMaxYamlBytes = 1LL << 20;

struct Picture {
  std::string name;  // as listed, relative to `base`
  fs::path path;
  std::string where;
};

std::vector<Picture> pictures_of(const fs::path& source) {
  std::vector<Picture> pictures;
  std::error_code error;
  if (fs::is_directory(source, error)) {
    for (const std::string& file : files_below(source, [](const fs::path& p) { return format_by_name(p).has_value(); }))
      pictures.push_back({file, source / file, ""});
    return pictures;
  }
  const std::string text = read_text(source, kMaxListBytes);
  for (const auto& [content, line] : lines_of(text)) {
    std::string name(content);
    std::replace(name.begin(), name.end(), '\\', '/');
    pictures.push_back({name, source.parent_path() / name, fmt::format("line {}", line)});
  }
  return pictures;
}

// The last folder called "images" becomes "labels"; where there is none, or no such file, the one beside the picture.
fs::path label_file(const fs::path& picture) {
  std::vector<fs::path> parts(picture.begin(), picture.end());
  std::error_code error;
  for (size_t i = parts.size(); i-- > 0;) {
    if (parts[i] != "images") continue;
    parts[i] = "labels";
    fs::path file;
    for (const fs::path& part : parts) file /= part;
    file.replace_extension(".txt");
    const fs::path beside = fs::path(picture).replace_extension(".txt");
    return !fs::exists(file, error) && fs::exists(beside, error) ? beside : file;
  }
  return fs::path(picture).replace_extension(".txt");
}

class LabelReader {
 public:
  LabelReader(Reading& reading, const std::vector<std::string>& classes, RawImage& image)
      : reading_(reading), classes_(classes), image_(image) {}

  int64_t refused = 0;

  void read(const std::string& text) {
    for (const auto& [content, line] : lines_of(text)) read_line(content, line);
  }

 private:
  static std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
      const size_t end = std::min(text.find_first_of(" \t"), text.size());
      if (end > 0) words.push_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
  }

  static double number(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    return whole ? value : std::numeric_limits<double>::quiet_NaN();
  }

  void read_line(std::string_view content, int line) {
    const std::vector<std::string_view> words = words_of(content);
    RawObject object;
    object.where = fmt::format("line {}", line);
    const double index = number(words[0]);
    const bool known = index >= 0 && index == std::floor(index) && index < static_cast<double>(classes_.size());
    object.class_name = known ? classes_[static_cast<size_t>(index)] : fmt::format("index {}", words[0]);
    std::vector<double> values;
    for (size_t i = 1; i < words.size(); ++i) values.push_back(number(words[i]));
    for (const std::string_view word : words)
      object.spelled += fmt::format("{}{}", object.spelled.empty() ? "(" : " ", escaped(word));
    object.spelled += ")";
    if (content.find(',') != std::string_view::npos)
      object.hint = ": numbers are separated by blanks, and have a decimal point";
    const bool polygon = values.size() >= 6 && values.size() % 2 == 0;
    if (values.size() != 4 && !polygon) {
      ++refused;
      const char* hint = values.size() == 5 ? "; the last may be a score: is it a file of detections?" : "";
      object.unreadable = judge_unreadable(
          reading_, {Kind::bad_annotation, Action::object_dropped, image_.annotation_file, object.where,
                     fmt::format("{} values behind the class, not 4 or the corners of a polygon{}{}", values.size(),
                                 hint, object.hint)});
      if (object.unreadable) image_.objects.push_back(std::move(object));
      return;
    }
    object.unit = std::any_of(values.begin(), values.end(), [](double v) { return std::abs(v) <= 1; });
    if (polygon) {
      for (size_t i = 0; i < values.size(); i += 2) {
        object.x1 = i == 0 ? values[i] : std::min(object.x1, values[i]);
        object.x2 = i == 0 ? values[i] : std::max(object.x2, values[i]);
        object.y1 = i == 0 ? values[i + 1] : std::min(object.y1, values[i + 1]);
        object.y2 = i == 0 ? values[i + 1] : std::max(object.y2, values[i + 1]);
        if (std::isnan(values[i]) || std::isnan(values[i + 1]))
          object.x1 = values[i] + values[i + 1];  // a min may hide it
        if (std::isnan(object.x1)) break;
      }
    } else {
      object.x1 = values[0] - values[2] / 2;
      object.y1 = values[1] - values[3] / 2;
      object.x2 = values[0] + values[2] / 2;
      object.y2 = values[1] + values[3] / 2;
    }
    image_.objects.push_back(std::move(object));
  }

  Reading& reading_;
  const std::vector<std::string>& classes_;
  RawImage& image_;
};

}  // namespace

RawSplit read_yolo(Reading& reading) {
  const DatasetConfig& config = reading.config;
  FindingLog& log = reading.log;
  const fs::path source = split_file(config, reading.split);
  const std::vector<std::string> classes = config.classes.empty() ? read_yolo_classes(config) : config.classes;
  const std::string policy = bad_image_policy(config, reading.evaluation);
  RawSplit result;
  std::map<std::string, int> stems;
  const std::vector<Picture> pictures = pictures_of(source);
  if (pictures.empty())
    throw std::runtime_error(fmt::format("data.{}: {} names no picture", to_string(reading.split), source.string()));
  for (const Picture& picture : pictures) ++stems[fs::path(picture.name).replace_extension().string()];
  std::set<std::string> seen, used;
  int64_t labelled = 0;
  fs::path first_missing;
  for (const Picture& picture : pictures) {
    if (!seen.insert(picture.name).second) {
      log.note({Kind::duplicate_id, Action::image_dropped, source.string(), picture.where,
                fmt::format("'{}' is listed twice; it counts once", escaped(picture.name))});
      continue;
    }
    ++result.images_listed;
    RawImage image;
    const std::string stem = fs::path(picture.name).replace_extension().string();
    image.id = escaped(stems[stem] == 1 ? stem : picture.name);
    image.fractions = true;
    std::error_code error;
    image.path = picture.path;
    if (!fs::is_regular_file(image.path, error)) image.path = fs::path(config.root) / picture.name;
    if (!fs::is_regular_file(image.path, error)) image.path.clear();
    image.image_name = picture.name;
    const fs::path file = label_file(image.path.empty() ? picture.path : image.path);
    image.annotation_file = image.path.empty() ? source.string() : file.string();
    image.where = image.path.empty() ? picture.where : "";
    if (fs::exists(file, error)) {
      ++labelled;
      try {
        LabelReader reader(reading, classes, image);
        reader.read(read_text(file, kMaxLabelBytes));
        result.refused_boxes += reader.refused;
      } catch (const std::runtime_error& problem) {
        image.usable = false;
        log.judge({Kind::bad_annotation, Action::image_dropped, file.string(), "", problem.what()}, "bad_image",
                  policy);
      }
    } else {
      if (first_missing.empty()) first_missing = file;
      log.note({Kind::missing_annotation, Action::none, file.string(), "", "no such file: the picture is background"});
    }
    for (const RawObject& object : image.objects) used.insert(object.class_name);
    result.images.push_back(std::move(image));
  }
  if (labelled == 0)
    throw std::runtime_error(fmt::format("{}: none of its {} pictures has a label file: the first would be {}",
                                         source.string(), result.images_listed, first_missing.string()));
  result.classes.assign(used.begin(), used.end());
  return result;
}

std::vector<std::string> read_yolo_classes(const DatasetConfig& config) {
  std::vector<std::string> classes;
  std::error_code error;
  for (const char* name : {"data.yaml", "dataset.yaml", "data.yml"}) {
    const fs::path file = fs::path(config.root) / name;
    if (!fs::exists(file, error)) continue;
    try {
      const YAML::Node names = YAML::Load(read_text(file, kMaxYamlBytes))["names"];
      if (names.IsSequence()) {
        for (const YAML::Node& entry : names) classes.push_back(entry.as<std::string>());
      } else if (names.IsMap()) {
        std::map<int64_t, std::string> by_index;
        for (const auto& entry : names) by_index[entry.first.as<int64_t>()] = entry.second.as<std::string>();
        for (const auto& [index, text] : by_index) {
          if (index != static_cast<int64_t>(classes.size()))
            throw std::runtime_error(fmt::format("{}: `names` has no class {}", file.string(), classes.size()));
          classes.push_back(text);
        }
      }
    } catch (const YAML::Exception& problem) {
      throw std::runtime_error(
          fmt::format("{}:{}: not valid YAML: {}", file.string(), problem.mark.line + 1, problem.msg));
    }
    if (!classes.empty()) return classes;
  }
  const fs::path file = fs::path(config.root) / "classes.txt";
  if (!fs::exists(file, error)) return classes;
  const std::string text = read_text(file, kMaxYamlBytes);
  for (const Line& line : lines_of(text)) classes.emplace_back(line.text);
  return classes;
}

}  // namespace gradlibra
