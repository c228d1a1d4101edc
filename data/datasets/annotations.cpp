// SPDX-License-Identifier: MIT
// Names, places and policies that the dataset readers share.
#include "data/datasets/annotations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& file) {
  std::error_code error;
  return fs::is_regular_file(file, error);
}

// Up to a dozen names of what is in a folder, for error messages.
std::string listing(const fs::path& folder, const std::string& extension) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == extension) names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  constexpr size_t kShown = 12;
  if (names.size() > kShown) {
    names.resize(kShown);
    names.emplace_back("...");
  }
  return fmt::format("{} holds [{}]", folder.string(), fmt::join(names, ", "));
}

}  // namespace

void DatasetConfig::describe(ConfigVisitor& v) {
  v.choice("format", format, {"voc", "coco", "yolo"},
           "voc: one XML file per image; coco: one JSON file per split; yolo: one text file per image");
  v.field("root", root, "folder of the data set");
  v.field("classes", classes,
          "class names in label order; empty: the categories of a COCO training file, the names in YOLO's data.yaml");
  v.field("groups", groups, "group name to class names (frequent, common, rare), for the group means of the metrics");
  v.field("train", train,
          "training split; VOC: ImageSets/Main/<name>.txt, a folder of XML files, or all (\"*\") for all there are; "
          "COCO: annotation file under root; YOLO: folder of images or list; empty: none");
  v.field("val", val, "validation split, as train");
  v.field("test", test, "test split, as train");
  v.field("image_dir", image_dir,
          "folder of the images under root; empty: JPEGImages (voc), images (coco); COCO looks beside the annotation "
          "file, too");
  v.field("train_image_dir", train_image_dir, "image_dir of the training split; empty: image_dir");
  v.field("val_image_dir", val_image_dir, "image_dir of the validation split; empty: image_dir");
  v.field("test_image_dir", test_image_dir, "image_dir of the test split; empty: image_dir");
  v.field("annotation_dir", annotation_dir, "folder of the XML files under root; empty: Annotations (voc only)");
  v.field("voc_one_based", voc_one_based, "VOC coordinates count pixels from 1: subtract 1 from all four");
  v.choice("unknown_class", unknown_class, {"error", "drop"}, "objects of a class that is not in the list");
  v.choice("bad_box", bad_box, {"error", "drop"},
           "boxes that are empty, not finite, or wholly outside (partly outside: clipped; swapped corners: put right)");
  v.choice("bad_truth", bad_truth, {"error", "miss", "drop"},
           "evaluation: boxes that cannot be read (miss: counted as missed; drop: also those empty or outside, which "
           "are counted as missed otherwise); bad_box=error comes first");
  v.choice(
      "bad_image", bad_image, {"error", "drop"},
      "training images that are missing, unreadable or not of the annotated size (in an evaluation: always an error)");
  v.choice("missing_class", missing_class, {"allow", "error"},
           "training without a usable box of a class that data.classes names; allowed, it is said aloud");
  v.choice("check_images", check_images, {"full", "header"},
           "before training: decode every image to its end, or read headers alone (truncated files are met later)");
  v.choice("exif", exif, {"ignore", "apply"}, "EXIF orientation: pixels as stored, or turned upright");
  v.field("filter_empty", filter_empty, "leave images without boxes out of training");
  v.field("min_size", min_size, "leave images less wide or high than this out of training; 0: none", at_least(0));
}

const char* to_string(Finding::Kind kind) {
  using Kind = Finding::Kind;
  switch (kind) {
    case Kind::swapped_box:
      return "swapped_box";
    case Kind::empty_box:
      return "empty_box";
    case Kind::outside_box:
      return "outside_box";
    case Kind::not_finite:
      return "not_finite";
    case Kind::unknown_class:
      return "unknown_class";
    case Kind::missing_image:
      return "missing_image";
    case Kind::unreadable_image:
      return "unreadable_image";
    case Kind::missing_annotation:
      return "missing_annotation";
    case Kind::bad_annotation:
      return "bad_annotation";
    case Kind::size_mismatch:
      return "size_mismatch";
    case Kind::exif_rotation:
      return "exif_rotation";
    case Kind::duplicate_id:
      return "duplicate_id";
    case Kind::duplicate_box:
      return "duplicate_box";
    case Kind::unused_image:
      return "unused_image";
    case Kind::zero_based:
      return "zero_based";
    case Kind::no_objects:
      return "no_objects";
    case Kind::small_image:
      return "small_image";
    case Kind::guessed_file_name:
      return "guessed_file_name";
    case Kind::wrong_extension:
      return "wrong_extension";
    case Kind::class_missing_from_image:
      return "class_missing_from_image";
    case Kind::tiny_box:
      return "tiny_box";
    case Kind::normalised_boxes:
      return "normalised_boxes";
    case Kind::ambiguous_image:
      return "ambiguous_image";
    case Kind::file_name_mismatch:
      return "file_name_mismatch";
    case Kind::pixel_format:
      return "pixel_format";
    case Kind::several_frames:
      return "several_frames";
    case Kind::ignore_flag:
      return "ignore_flag";
    case Kind::id_type:
      return "id_type";
    case Kind::tag_case:
      return "tag_case";
    case Kind::not_utf8:
      return "not_utf8";
    case Kind::passed_over:
      return "passed_over";
    case Kind::missing_class:
      return "missing_class";
    case Kind::too_large_image:
      return "too_large_image";
    case Kind::too_many_boxes:
      return "too_many_boxes";
  }
  return "unknown";
}

const char* to_string(Finding::Action action) {
  using Action = Finding::Action;
  switch (action) {
    case Action::none:
      return "none";
    case Action::fixed:
      return "fixed";
    case Action::clipped:
      return "clipped";
    case Action::counted:
      return "counted";
    case Action::object_dropped:
      return "object_dropped";
    case Action::image_dropped:
      return "image_dropped";
    case Action::fatal:
      return "fatal";
  }
  return "unknown";
}

const char* to_string(Split split) { return split == Split::train ? "train" : split == Split::val ? "val" : "test"; }

std::string describe(const Finding& finding) {
  return finding.file + (finding.where.empty() ? "" : ": " + finding.where) + ": " + finding.message;
}

void FindingLog::judge(Finding finding, const char* key, const std::string& policy) {
  if (policy == "miss") {
    finding.action = Finding::Action::counted;
  } else if (policy != "drop") {
    finding.action = Finding::Action::fatal;
    fatal_.push_back({findings_.size(), key, policy});
  }
  note(std::move(finding));
}

void FindingLog::stop_if_fatal(int64_t images, int64_t boxes) const {
  if (fatal_.empty() || on_error_ == OnError::collect) return;
  std::map<Finding::Kind, std::vector<const Fatal*>> kinds;
  std::vector<Finding::Kind> order;
  for (const Fatal& fatal : fatal_) {
    const Finding::Kind kind = findings_[fatal.finding].kind;
    if (!kinds.contains(kind)) order.push_back(kind);
    kinds[kind].push_back(&fatal);
  }
  std::string message;
  constexpr size_t kShownKinds = 4;
  for (size_t k = 0; k < std::min(order.size(), kShownKinds); ++k) {
    const std::vector<const Fatal*>& alike = kinds[order[k]];
    const Fatal& first = *alike.front();
    const auto count = static_cast<int64_t>(alike.size());
    const bool of_images = first.key == "bad_image" || first.policy == kAlwaysError;
    const int64_t total = of_images ? images : boxes;
    const char* what = of_images ? "images" : "boxes";
    message += fmt::format("{}{} [{}]", k > 0 ? "\n" : "", describe(findings_[first.finding]), to_string(order[k]));
    if (count > 1) message += fmt::format("\n  and {} more like it, of {} {}", count - 1, total, what);
    if (first.key.empty()) continue;  // the message says what to do
    if (first.policy == kAlwaysError) {
      message += "\n  an evaluation never drops images: mend the file or take the image off the split";
    } else if (first.key == "bad_truth") {
      message +=
          "\n  an evaluation never drops truths in silence: mend the file, or set data.bad_truth to 'miss' (counted as "
          "missed) or 'drop' (left out of the figures)";
    } else if (count >= total && total > 0) {
      message +=
          fmt::format("\n  data.{} is '{}', and without {} nothing would be left: mend what they have in common",
                      first.key, first.policy,
                      total == 1 ? fmt::format("the only one of the {}", what) : fmt::format("all {} {}", total, what));
    } else {
      message +=
          fmt::format("\n  data.{} is '{}'; set it to 'drop' to go on without {}, after a look at `inspect data`",
                      first.key, first.policy, count == 1 ? "it" : fmt::format("these {}", count));
    }
  }
  if (order.size() > kShownKinds)
    message += fmt::format("\nand {} more kinds; `inspect data` has them all", order.size() - kShownKinds);
  throw std::runtime_error(message);
}

fs::path image_folder(const DatasetConfig& config, Split split) {
  const char* usual = config.format == "coco" ? "images" : config.format == "yolo" ? "" : "JPEGImages";
  const std::string& own = split == Split::train ? config.train_image_dir
                           : split == Split::val ? config.val_image_dir
                                                 : config.test_image_dir;
  const std::string& chosen = own.empty() ? config.image_dir : own;
  return fs::path(config.root) / (chosen.empty() ? usual : chosen);
}

fs::path annotation_folder(const DatasetConfig& config) {
  return fs::path(config.root) / (config.annotation_dir.empty() ? "Annotations" : config.annotation_dir);
}

const std::string& split_name(const DatasetConfig& config, Split split) {
  return split == Split::train ? config.train : split == Split::val ? config.val : config.test;
}

fs::path split_file(const DatasetConfig& config, Split split) {
  const fs::path root(config.root);
  const std::string& name = split_name(config, split);
  const char* key = to_string(split);
  std::error_code error;
  if (config.root.empty()) throw std::runtime_error("data.root is empty: give the folder of the data set");
  if (!fs::is_directory(root, error))
    throw std::runtime_error(fmt::format("data.root: {} is not a folder", root.string()));
  if (name.empty()) throw std::runtime_error(fmt::format("data.{0} is empty: there is no {0} split", key));
  const auto first_of = [&](const std::vector<fs::path>& candidates, const auto& good) {
    const auto found = std::find_if(candidates.begin(), candidates.end(), good);
    return found == candidates.end() ? fs::path() : *found;
  };
  const auto is_folder = [](const fs::path& folder) {
    std::error_code status;
    return fs::is_directory(folder, status);
  };
  if (config.format == "voc") {
    if (name == "*") {
      if (is_folder(annotation_folder(config))) return annotation_folder(config);
      throw std::runtime_error(fmt::format("data.{} is '*', but there is no folder {} (data.annotation_dir)", key,
                                           annotation_folder(config).string()));
    }
    const fs::path lists = root / "ImageSets" / "Main", file = lists / (name + ".txt");
    if (fs::path found = first_of({file, root / (name + ".txt"), root / name}, is_file); !found.empty()) return found;
    if (is_folder(root / name)) return root / name;
    // "all", because "*" is no plain YAML.
    if (name == "all" && is_folder(annotation_folder(config))) return annotation_folder(config);
    const std::string hint =
        is_folder(lists) ? ""
                         : fmt::format(
                               "; for a set without ImageSets, data.{}=all takes all of {}, and `inspect split` "
                               "makes lists",
                               key, annotation_folder(config).string());
    throw std::runtime_error(
        fmt::format("data.{}: no file {}; {}{}", key, file.string(), listing(lists, ".txt"), hint));
  }
  if (config.format == "yolo") {
    if (fs::path found = first_of({root / name, root / (name + ".txt")}, is_file); !found.empty()) return found;
    fs::path found = first_of({root / "images" / name, root / name / "images", root / name}, is_folder);
    if (!found.empty()) return found;
    throw std::runtime_error(
        fmt::format("data.{0}: neither a list {1}.txt nor a folder images/{1}, {1}/images or {1} in {2}", key, name,
                    root.string()));
  }
  const fs::path annotations = root / "annotations";
  const std::vector<fs::path> candidates{root / name,
                                         root / (name + ".json"),
                                         annotations / name,
                                         annotations / (name + ".json"),
                                         annotations / ("instances_" + name + ".json"),
                                         root / name / "_annotations.coco.json"};
  if (fs::path found = first_of(candidates, is_file); !found.empty()) return found;
  throw std::runtime_error(fmt::format("data.{}: no annotation file {} (nor annotations/instances_{}.json); {}", key,
                                       candidates[0].string(), name, listing(annotations, ".json")));
}

std::vector<std::string> files_of(const FolderWalk& walk, const std::function<bool(const fs::path&)>& wanted) {
  std::vector<std::string> files;
  for (const auto* list : {&walk.files, &walk.broken_links})
    std::copy_if(list->begin(), list->end(), std::back_inserter(files), wanted);
  std::sort(files.begin(), files.end());
  return files;
}

void note_passed_over(FindingLog& log, const fs::path& folder, const FolderWalk& walk,
                      const std::function<bool(const fs::path&)>& wanted) {
  const auto note = [&](const std::string& path, const std::string& what) {
    log.note({Finding::Kind::passed_over, Finding::Action::none, (folder / path).string(), "", what});
  };
  std::map<std::string, int64_t> hidden;
  for (const std::string& file : walk.hidden_files)
    if (wanted(file)) ++hidden[hidden_folder_of(file)];
  for (const auto& [path, count] : hidden)
    note(path, fmt::format("is a hidden folder: what it holds is passed over ({} file{} of the kind that is read)",
                           count, count == 1 ? "" : "s"));
  for (const auto& [path, why] : walk.passed_over) note(path, fmt::format("is passed over: {}", why));
  for (const std::string& link : walk.broken_links)
    if (!wanted(link)) note(link, "is a link that leads to nothing: if it was a folder, what that held is missing");
}

std::string read_text(const fs::path& file, int64_t max_bytes) {
  std::string text = read_file(file, max_bytes);
  if (const std::string problem = encoding_problem(text); !problem.empty())
    throw std::runtime_error(file.string() + ": " + problem);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  return text;
}

std::string listed_twice(const std::string& first, const std::string& again) {
  if (first == again) return fmt::format("'{}' is listed twice; it counts once", escaped(again));
  return fmt::format("'{}' is listed already, as '{}'; it counts once", escaped(again), escaped(first));
}

std::optional<bool> flag_of(std::string_view text) {
  const std::string word = lower_case(trim(text));
  for (const char* yes : {"1", "true", "yes", "t", "y"})
    if (word == yes) return true;
  for (const char* no : {"", "0", "false", "no", "f", "n"})
    if (word == no) return false;
  return std::nullopt;
}

std::string bad_image_policy(const DatasetConfig& config, bool evaluation) {
  return evaluation ? std::string(kAlwaysError) : config.bad_image;
}

BoxPolicy box_policy(const DatasetConfig& config, bool evaluation) {
  if (!evaluation || config.bad_box == "error") return {"bad_box", config.bad_box};
  return {"bad_truth", config.bad_truth};
}

bool judge_unreadable(Reading& reading, Finding finding) {
  const BoxPolicy policy = box_policy(reading.config, reading.evaluation);
  reading.log.judge(std::move(finding), policy.key, policy.policy);
  return policy.policy == "miss";
}

}  // namespace gradlibra
