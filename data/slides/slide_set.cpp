// SPDX-License-Identifier: MIT
#include "data/slides/slide_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
#include "data/slides/slide.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Kind = Finding::Kind;
using Action = Finding::Action;

// As a part of file names, of lists with a name a line, and of COCO files.
std::string safe_name(const std::string& stem) {
  const std::string text = find_invalid_utf8(stem) == std::string::npos ? stem : escaped(stem);
  std::string name;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || std::isalnum(byte) != 0 || std::string_view("._-+=@#").find(c) < 7;
    name += plain ? c : '_';
  }
  return name;
}

// The reader's configuration: annotations wherever they are, pictures in the folder of slides.
DatasetConfig reader_config(const DatasetConfig& config, const SlideInput& input) {
  DatasetConfig result = config;
  const fs::path annotations = fs::absolute(input.annotations), slides = fs::absolute(input.slides);
  result.image_dir = (fs::is_directory(slides) ? slides : slides.parent_path()).string();
  result.train_image_dir = "";
  if (fs::is_directory(annotations)) {
    result.format = "voc";
    result.root = result.annotation_dir = annotations.string();
    result.train = "*";
  } else {
    result.format = "coco";
    result.root = annotations.parent_path().string();
    result.train = annotations.filename().string();
  }
  return result;
}

RawSplit read_annotations(Reading& reading, const SlideInput& input) {
  std::error_code error;
  if (!fs::exists(input.annotations, error))
    throw std::runtime_error(fmt::format("--annotations: there is no {}", input.annotations.string()));
  if (fs::is_directory(input.annotations, error)) return read_voc(reading);
  const std::string extension = lower_case(input.annotations.extension().string());
  if (extension == ".csv" || extension == ".tsv") return read_slide_csv(reading, input.annotations);
  if (extension == ".json") return read_coco(reading);
  throw std::runtime_error(
      fmt::format("--annotations: {} is neither a .json (COCO) nor a .csv file nor a folder of "
                  "XML files (VOC)",
                  input.annotations.string()));
}

class Matcher {
 public:
  Matcher(Reading& reading, const SlideInput& input, int rows, SlideSet& set)
      : reading_(reading), input_(input), rows_(rows), set_(set), files_(list_slides(input.slides, set.left_out)) {}

  void take(const RawSplit& raw) {
    Checker checker(reading_, InputLimits{}, set_.classes);
    for (const RawImage& image : raw.images) {
      if (!image.usable) {
        seen_.insert(name_of(image));  // it has been reported
        continue;
      }
      const auto file = files_.find(name_of(image));
      if (file == files_.end()) {
        judge({Kind::missing_image, Action::image_dropped, image.annotation_file, image.where,
               fmt::format("no slide for '{}' in {}", escaped(name_in(image)), input_.slides.string())});
        continue;
      }
      if (!seen_.insert(file->first).second) {
        judge({Kind::duplicate_id, Action::image_dropped, image.annotation_file, image.where,
               fmt::format("slide {} is annotated twice", file->second.filename().string())});
        continue;
      }
      std::optional<AnnotatedSlide> slide = open(file->first, file->second);
      if (!slide) continue;
      if (image.width != 0 && (image.width != slide->width || image.height != slide->height)) {
        judge({Kind::size_mismatch, Action::image_dropped, image.annotation_file,
               image.size_where.empty() ? image.where : image.size_where,
               fmt::format("annotated as {} x {}, but {} is {} x {}: boxes of another level?", image.width,
                           image.height, slide->path.string(), slide->width, slide->height)});
        continue;
      }
      ImageRecord record{slide->name, slide->path, slide->width, slide->height, {}};
      checker.check_objects(image, record);
      slide->objects = std::move(record.objects);
      set_.slides.push_back(std::move(*slide));
    }
  }

  void take_unannotated() {
    for (const auto& [name, path] : files_) {
      if (seen_.contains(name)) continue;
      if (input_.unannotated == "error") {
        reading_.log.judge({Kind::missing_annotation, Action::image_dropped, path.string(), "",
                            fmt::format("no annotation lists this slide: --unannotated=skip leaves such slides out, "
                                        "--unannotated=background takes them as slides without cells")},
                           "", kAlwaysError);
        continue;
      }
      set_.unannotated.push_back(name);
      if (input_.unannotated == "skip") continue;
      if (std::optional<AnnotatedSlide> slide = open(name, path)) set_.slides.push_back(std::move(*slide));
    }
    std::sort(set_.slides.begin(), set_.slides.end(),
              [](const AnnotatedSlide& a, const AnnotatedSlide& b) { return a.name < b.name; });
  }

  [[nodiscard]] size_t files() const { return files_.size(); }

 private:
  void judge(Finding finding) {
    reading_.log.judge(std::move(finding), "bad_image", bad_image_policy(reading_.config, false));
  }
  static const std::string& name_in(const RawImage& image) {
    return image.image_name.empty() ? image.id : image.image_name;
  }
  static std::string name_of(const RawImage& image) { return slide_name(name_in(image)); }
  std::optional<AnnotatedSlide> open(const std::string& name, const fs::path& path) {
    try {
      const std::unique_ptr<Slide> slide = open_slide(path, input_.memory_bytes, rows_);
      return AnnotatedSlide{name, path, slide->width(), slide->height(), {}, slide->memory(rows_)};
    } catch (const std::runtime_error& error) {
      std::string why = error.what();
      if (why.starts_with(path.string() + ": ")) why.erase(0, path.string().size() + 2);
      judge({Kind::unreadable_image, Action::image_dropped, path.string(), "", why});
      return std::nullopt;
    }
  }

  Reading& reading_;
  const SlideInput& input_;
  int rows_;
  SlideSet& set_;
  std::map<std::string, fs::path> files_;
  std::set<std::string> seen_;
};

// Where a name comes from: the first object of that class, if the annotations decide.
std::string place_of(const std::string& name, const DatasetConfig& config, const RawSplit& raw, const fs::path& file) {
  if (!config.classes.empty()) return "data.classes";
  for (const RawImage& image : raw.images)
    for (const RawObject& object : image.objects)
      if (object.class_name == name) return fmt::format("{}: {}", image.annotation_file, object.where);
  return file.string();
}

std::vector<std::string> class_list(const DatasetConfig& config, const RawSplit& raw, const fs::path& file) {
  const std::vector<std::string>& classes = config.classes.empty() ? raw.classes : config.classes;
  if (classes.empty()) throw std::runtime_error(file.string() + ": names no class, and data.classes is empty");
  std::set<std::string> known;
  for (const std::string& name : classes) {
    if (trim(name).empty() || escaped(name) != name)
      throw std::runtime_error(
          fmt::format("{}: class '{}' is empty or no plain text", place_of(name, config, raw, file), escaped(name)));
    if (!known.insert(std::string(trim(name))).second)
      throw std::runtime_error(fmt::format("{}: class '{}' is named twice", place_of(name, config, raw, file), name));
  }
  return classes;
}

// As a training, which would stop at such patches.
void check_boxes(const SlideSet& set, const SlideInput& input, int64_t boxes, std::span<const Finding> findings) {
  const auto holds_one = [](const AnnotatedSlide& slide) {
    return std::any_of(slide.objects.begin(), slide.objects.end(), is_target);
  };
  if (std::any_of(set.slides.begin(), set.slides.end(), holds_one)) return;
  const auto first = std::find_if(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return finding.action == Action::object_dropped; });
  throw std::runtime_error(fmt::format("{}: has no usable box: there would be nothing to train on, of {} boxes{}",
                                       input.annotations.string(), boxes,
                                       first == findings.end() ? "" : "\n  first: " + describe(*first)));
}

}  // namespace

std::map<std::string, fs::path> list_slides(const fs::path& input, std::string& left_out) {
  std::error_code error;
  if (!fs::exists(input, error)) throw std::runtime_error(fmt::format("--slides: there is no {}", input.string()));
  std::vector<fs::path> files;
  std::map<std::string, int64_t> others;
  if (fs::is_directory(input, error)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(input)) {
      if (entry.is_directory(error)) {
        ++others["folders"];
      } else if (is_slide_name(entry.path())) {
        files.push_back(entry.path());
      } else {
        ++others[entry.path().extension().empty() ? "without extension" : entry.path().extension().string()];
      }
    }
  } else {
    files.push_back(input);
  }
  for (const auto& [what, count] : others)
    left_out += fmt::format("{}{} {}", left_out.empty() ? "" : ", ", count, what);
  if (files.empty())
    throw std::runtime_error(fmt::format("--slides: {} holds no slide{}", input.string(),
                                         left_out.empty() ? "" : " (but " + left_out + ")"));
  std::sort(files.begin(), files.end());
  std::map<std::string, fs::path> slides;
  for (const fs::path& file : files) {
    const auto [other, fresh] = slides.emplace(safe_name(file.stem().string()), file);
    if (!fresh)
      throw std::runtime_error(
          fmt::format("{} and {} are two slides of one name ('{}'), by which annotations and "
                      "patches go: rename one or take it away",
                      other->second.string(), file.string(), other->first));
  }
  return slides;
}

std::string slide_name(const std::string& text) {
  std::string name = text;
  std::replace(name.begin(), name.end(), '\\', '/');
  const fs::path file = fs::path(name).filename();
  return safe_name(is_slide_name(file) ? file.stem().string() : file.string());
}

SlideSet read_slides(const DatasetConfig& config, const SlideInput& input, int rows, std::vector<Finding>& findings) {
  SlideSet set;
  FindingLog log(findings, FindingLog::OnError::raise);
  const DatasetConfig reader = reader_config(config, input);
  Reading reading{reader, Split::train, /*evaluation=*/false, log};
  Matcher matcher(reading, input, rows, set);
  const RawSplit raw = read_annotations(reading, input);
  set.classes = class_list(config, raw, input.annotations);
  set.category_ids = raw.category_ids;
  check_units(reading, raw, input.annotations);
  matcher.take(raw);
  matcher.take_unannotated();
  int64_t boxes = raw.refused_boxes;
  for (const RawImage& image : raw.images) boxes += static_cast<int64_t>(image.objects.size());
  log.stop_if_fatal(std::max<int64_t>(raw.images_listed, static_cast<int64_t>(matcher.files())), boxes);
  if (set.slides.empty()) throw std::runtime_error(input.slides.string() + ": no slide is left to make patches from");
  check_boxes(set, input, boxes, log.findings());
  return set;
}

}  // namespace gradlibra
