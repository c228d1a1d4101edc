// SPDX-License-Identifier: MIT
// YOLO: one text file per image, a line per object: class index, centre x, centre y, width, height as fractions of the
// picture, and maybe keypoints; or class index and the corners of a polygon. A picture without a file is background.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "data/datasets/yolo_description.h"
#include "runtime/base/files.h"
#include "runtime/base/numbers.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

constexpr int64_t kMaxLabelBytes = 64LL << 20;  // of one picture

struct Picture {
  std::string name;  // as listed, relative to `base`
  fs::path path;
  std::string where;
};

// What a split holds: the lines of its list, or all pictures of its folder.
struct Pictures {
  std::vector<Picture> listed;
  bool folder = false;
  FolderWalk walk;  // of the folder
};

bool is_picture(const fs::path& file) { return format_by_name(file).has_value(); }
bool is_text(const fs::path& file) { return lower_case(file.extension().string()) == ".txt"; }

// Pictures by their names that no decoder here reads.
bool is_foreign_picture(const fs::path& file) {
  static const std::set<std::string> known{".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k",  ".dng",  ".jfif",
                                           ".mpo", ".pgm",  ".ppm",  ".pbm",  ".pnm", ".tga", ".mrxs", ".ndpi", ".svs"};
  return known.contains(lower_case(file.extension().string()));
}

Pictures pictures_of(const fs::path& source) {
  Pictures pictures;
  std::error_code error;
  if (fs::is_directory(source, error)) {
    pictures.folder = true;
    pictures.walk = walk_folder(source);
    for (const std::string& file : files_of(pictures.walk, is_picture))
      pictures.listed.push_back({file, source / file, ""});
    return pictures;
  }
  const std::string text = read_text(source, kMaxListBytes);
  for (const auto& [content, line] : lines_of(text)) {
    std::string name(content);
    std::replace(name.begin(), name.end(), '\\', '/');
    pictures.listed.push_back({name, source.parent_path() / name, fmt::format("line {}", line)});
  }
  return pictures;
}

// Where the label of a picture may be, the likelier first: the last folder called "images" becomes "labels"; or beside
// the picture.
std::vector<fs::path> label_places(const fs::path& picture) {
  std::vector<fs::path> places;
  std::vector<fs::path> parts(picture.begin(), picture.end());
  for (size_t i = parts.size(); i-- > 0;) {
    if (parts[i] != "images") continue;
    parts[i] = "labels";
    fs::path file;
    for (const fs::path& part : parts) file /= part;
    places.push_back(std::move(file));
    break;
  }
  places.push_back(picture);
  return places;
}

struct Label {
  fs::path file;       // the likeliest if there is none
  bool there = false;  // something of that name is: perhaps a link to nothing, or in a folder that is closed to us
  bool other_capitals = false;  // .TXT
};
Label label_of(const fs::path& picture) {
  std::vector<fs::path> places = label_places(picture);
  std::error_code error;
  for (const char* extension : {".txt", ".TXT", ".Txt"}) {
    for (fs::path& file : places) {
      file.replace_extension(extension);
      if (fs::symlink_status(file, error).type() != fs::file_type::not_found)
        return {file, true, std::string_view(extension) != ".txt"};
    }
  }
  return {places.front().replace_extension(".txt")};
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(" \t"), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

double number(std::string_view text) {
  return parse_number<double>(text).value_or(std::numeric_limits<double>::quiet_NaN());
}

class LabelReader {
 public:
  LabelReader(Reading& reading, const std::vector<std::string>& classes, size_t keypoint_numbers, RawImage& image)
      : reading_(reading), classes_(classes), keypoint_numbers_(keypoint_numbers), image_(image) {}

  int64_t refused = 0;

  void read(const std::string& text) {
    for (const auto& [content, line] : lines_of(text)) read_line(content, line);
  }

 private:
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
    // Of a pose the box comes first.
    if (keypoint_numbers_ > 0 && values.size() == 4 + keypoint_numbers_) values.resize(4);
    const bool polygon = keypoint_numbers_ == 0 && values.size() >= 6 && values.size() % 2 == 0;
    if (values.size() != 4 && !polygon) {
      ++refused;
      const std::string hint =
          keypoint_numbers_ > 0 ? fmt::format("; by kpt_shape of data.yaml, {} may follow the box", keypoint_numbers_)
          : values.size() == 5  ? "; the last may be a score: is it a file of detections?"
          : values.size() > 6   ? "; keypoints? data.yaml then says how many, as kpt_shape"
                                : "";
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
  const size_t keypoint_numbers_;
  RawImage& image_;
};

// Lines that look like labels: a file of notes or class names beside the pictures has none.
int64_t label_lines(const fs::path& file) {
  std::string text;
  try {
    text = read_file(file, kMaxLabelBytes);
  } catch (const std::runtime_error&) {
    return 0;
  }
  int64_t count = 0;
  for (const Line& line : lines_of(text)) {
    const std::vector<std::string_view> words = words_of(line.text);
    const double index = number(words[0]);
    count += words.size() >= 5 && index >= 0 && index == std::floor(index) &&
             std::all_of(words.begin() + 1, words.begin() + 5,
                         [](std::string_view word) { return std::isfinite(number(word)); });
  }
  return count;
}

class YoloReader {
 public:
  explicit YoloReader(Reading& reading)
      : reading_(reading),
        config_(reading.config),
        log_(reading.log),
        policy_(bad_image_policy(config_, reading.evaluation)),
        source_(split_file(config_, reading.split)),
        classes_(config_.classes.empty() ? read_yolo_classes(config_) : config_.classes),
        keypoint_numbers_(read_yolo_keypoint_numbers(config_)) {}

  RawSplit read() {
    const Pictures pictures = pictures_of(source_);
    if (pictures.listed.empty())
      throw std::runtime_error(
          fmt::format("data.{}: {} names no picture", to_string(reading_.split), source_.string()));
    note_passed_over(log_, source_, pictures.walk, is_picture);
    for (const std::string& file : pictures.walk.files)
      if (is_foreign_picture(file))
        log_.note({Kind::passed_over, Action::none, (source_ / file).string(), "",
                   "is a picture of a format that is not read: convert it to PNG"});
    for (const Picture& picture : pictures.listed) ++stems_[fs::path(picture.name).replace_extension().string()];
    for (const Picture& picture : pictures.listed) take(picture);
    if (labelled_ == 0)
      throw std::runtime_error(fmt::format("{}: none of its {} pictures has a label file: the first would be {}",
                                           source_.string(), result_.images_listed, first_missing_.string()));
    // A list names pictures, and other labels are those of other splits; of a folder, all labels are wanted.
    if (pictures.folder) judge_lone_labels(pictures);
    result_.classes.assign(used_.begin(), used_.end());
    return std::move(result_);
  }

 private:
  void take(const Picture& picture) {
    std::error_code error;
    fs::path path = picture.path;
    if (!fs::is_regular_file(path, error)) path = fs::path(config_.root) / picture.name;
    if (!fs::is_regular_file(path, error)) path.clear();
    const fs::path place = fs::absolute(path.empty() ? picture.path : path).lexically_normal();
    if (const auto [first, fresh] = seen_.emplace(place.string(), picture.name); !fresh) {
      log_.note({Kind::duplicate_id, Action::image_dropped, source_.string(), picture.where,
                 listed_twice(first->second, picture.name)});
      return;
    }
    ++result_.images_listed;
    RawImage image;
    const std::string stem = fs::path(picture.name).replace_extension().string();
    image.id = escaped(stems_[stem] == 1 ? stem : picture.name);
    image.fractions = true;
    image.path = path;
    image.image_name = picture.name;
    const Label label = label_of(path.empty() ? picture.path : path);
    image.annotation_file = path.empty() ? source_.string() : label.file.string();
    image.where = path.empty() ? picture.where : "";
    if (label.there) {
      read_label(label, stem, image);
    } else {
      if (first_missing_.empty()) first_missing_ = label.file;
      log_.note(
          {Kind::missing_annotation, Action::none, label.file.string(), "", "no such file: the picture is background"});
    }
    for (const RawObject& object : image.objects) used_.insert(object.class_name);
    if (path.empty() && fs::is_symlink(picture.path, error)) {
      image.usable = false;
      log_.judge({Kind::missing_image, Action::image_dropped, picture.path.string(), "",
                  "is a link that leads to nothing: there is no such picture"},
                 "bad_image", policy_);
    }
    result_.images.push_back(std::move(image));
  }

  void read_label(const Label& label, const std::string& stem, RawImage& image) {
    const std::string file = label.file.string();
    ++labelled_;
    labelled_stems_.insert(stem);
    read_labels_.insert(label.file.lexically_normal().string());
    std::error_code error;
    try {
      if (fs::is_symlink(label.file, error) && !fs::exists(label.file, error))
        throw std::runtime_error("is a link that leads to nothing: whether the picture is background is not known");
      LabelReader reader(reading_, classes_, keypoint_numbers_, image);
      reader.read(read_text(label.file, kMaxLabelBytes));
      result_.refused_boxes += reader.refused;
    } catch (const std::runtime_error& problem) {
      image.usable = false;
      std::string why = problem.what();
      if (why.starts_with(file + ": ")) why.erase(0, file.size() + 2);
      log_.judge({Kind::bad_annotation, Action::image_dropped, file, "", why}, "bad_image", policy_);
      return;
    }
    if (label.other_capitals)
      log_.note({Kind::guessed_file_name, Action::fixed, file, "", "is read, though labels are called .txt"});
  }

  // Labels whose picture is not there, or of another name: their truths would be gone without a trace.
  void judge_lone_labels(const Pictures& pictures) {
    const fs::path folder = label_places(source_ / "picture").front().parent_path();
    std::error_code error;
    judge_lone_labels(pictures, source_, pictures.walk);
    if (folder != source_ && fs::is_directory(folder, error)) {
      const FolderWalk walk = walk_folder(folder);
      note_passed_over(log_, folder, walk, is_text);
      judge_lone_labels(pictures, folder, walk);
    }
  }
  void judge_lone_labels(const Pictures& pictures, const fs::path& folder, const FolderWalk& walk) {
    for (const std::string& name : files_of(walk, is_text)) {
      const fs::path file = folder / name;
      const std::string stem = fs::path(name).replace_extension().string();
      if (read_labels_.contains(file.lexically_normal().string()) || labelled_stems_.contains(stem)) continue;
      std::error_code error;
      const bool broken = !fs::exists(file, error);
      const int64_t boxes = broken ? 0 : label_lines(file);
      if (boxes == 0 && !broken) continue;
      ++result_.images_listed;
      RawImage image;
      image.usable = false;
      image.objects.resize(static_cast<size_t>(boxes));
      for (RawObject& object : image.objects) object.unreadable = true;
      result_.images.push_back(std::move(image));
      log_.judge({Kind::missing_image, Action::image_dropped, file.string(), "",
                  fmt::format("{}, but there is no picture '{}' in {}{}",
                              broken ? "is a link that leads to nothing"
                                     : fmt::format("has {} label{}", boxes, boxes == 1 ? "" : "s"),
                              escaped(stem), source_.string(), instead_of(stem, pictures))},
                 "bad_image", policy_);
    }
  }
  // What may be the picture of a lone label, as a clause for a message.
  static std::string instead_of(const std::string& stem, const Pictures& pictures) {
    const std::string last = lower_case(fs::path(stem).filename().string());
    for (const std::string& file : pictures.walk.files) {
      if (is_text(file) || lower_case(fs::path(file).stem().string()) != last) continue;
      return fmt::format(": is it '{}'{}?", escaped(file), is_picture(file) ? "" : ", a format that is not read");
    }
    return ": if it is not wanted, take its label away";
  }

  Reading& reading_;
  const DatasetConfig& config_;
  FindingLog& log_;
  const std::string policy_;
  const fs::path source_;
  const std::vector<std::string> classes_;
  const size_t keypoint_numbers_;
  RawSplit result_;
  std::map<std::string, int> stems_;         // of the listed pictures, and how many have it
  std::map<std::string, std::string> seen_;  // pictures by their places: as they were listed first
  std::set<std::string> labelled_stems_, read_labels_, used_;
  int64_t labelled_ = 0;
  fs::path first_missing_;
};

}  // namespace

RawSplit read_yolo(Reading& reading) { return YoloReader(reading).read(); }

}  // namespace gradlibra
