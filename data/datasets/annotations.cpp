// SPDX-License-Identifier: MIT
// Names, places and policies that the dataset readers share.
#include "data/datasets/annotations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "data/images/image.h"

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
  v.choice("format", format, {"voc", "coco"}, "voc: one XML file per image; coco: one JSON file per split");
  v.field("root", root, "folder of the data set");
  v.field("classes", classes, "class names in label order; empty: the categories of a COCO training file");
  v.field("groups", groups, "group name to class names (frequent, common, rare), for the group means of the metrics");
  v.field("train", train,
          "training split; VOC: ImageSets/Main/<name>.txt, COCO: annotation file under root; empty: none");
  v.field("val", val, "validation split, as train");
  v.field("test", test, "test split, as train");
  v.field("image_dir", image_dir, "folder of the images under root; empty: JPEGImages (voc), images (coco)");
  v.field("annotation_dir", annotation_dir, "folder of the XML files under root; empty: Annotations (voc only)");
  v.field("voc_one_based", voc_one_based, "VOC coordinates count pixels from 1: subtract 1 from all four");
  v.choice("unknown_class", unknown_class, {"error", "drop"}, "objects of a class that is not in the list");
  v.choice("bad_box", bad_box, {"error", "drop"},
           "boxes that are empty, not finite, or wholly outside (partly outside: clipped; swapped corners: put right)");
  v.choice(
      "bad_image", bad_image, {"error", "drop"},
      "training images that are missing, unreadable or not of the annotated size (in val and test: always an error)");
  v.choice("exif", exif, {"ignore", "apply"}, "EXIF orientation: pixels as stored, or turned upright");
  v.field("filter_empty", filter_empty, "leave images without boxes out of training");
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
    case Kind::guessed_file_name:
      return "guessed_file_name";
    case Kind::wrong_extension:
      return "wrong_extension";
    case Kind::class_missing_from_image:
      return "class_missing_from_image";
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
  const bool evaluation = policy == kAlwaysError;
  if (evaluation && collecting()) finding.action = Finding::Action::fatal;
  if (policy == "drop" || collecting()) return note(std::move(finding));
  throw std::runtime_error(
      fmt::format("{} [{}]\n  {}", describe(finding), to_string(finding.kind),
                  evaluation ? "an evaluation never drops images: mend the file or take the image off the split"
                             : fmt::format("data.{} is '{}'; set it to 'drop' to go on without it, after a look at "
                                           "`inspect data`",
                                           key, policy)));
}

fs::path image_folder(const DatasetConfig& config) {
  const char* usual = config.format == "coco" ? "images" : "JPEGImages";
  return fs::path(config.root) / (config.image_dir.empty() ? usual : config.image_dir);
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
  std::error_code error;
  if (config.root.empty()) throw std::runtime_error("data.root is empty: give the folder of the data set");
  if (!fs::is_directory(root, error))
    throw std::runtime_error(fmt::format("data.root: {} is not a folder", root.string()));
  if (name.empty()) throw std::runtime_error(fmt::format("data.{0} is empty: there is no {0} split", to_string(split)));
  if (config.format == "voc") {
    const fs::path lists = root / "ImageSets" / "Main", file = lists / (name + ".txt");
    if (is_file(file)) return file;
    throw std::runtime_error(
        fmt::format("data.{}: no file {}; {}", to_string(split), file.string(), listing(lists, ".txt")));
  }
  const fs::path annotations = root / "annotations";
  const std::array<fs::path, 5> candidates{root / name, root / (name + ".json"), annotations / name,
                                           annotations / (name + ".json"),
                                           annotations / ("instances_" + name + ".json")};
  for (const fs::path& file : candidates) {
    if (is_file(file)) return file;
  }
  throw std::runtime_error(fmt::format("data.{}: no annotation file {} (nor annotations/instances_{}.json); {}",
                                       to_string(split), candidates[0].string(), name, listing(annotations, ".json")));
}

fs::path find_image(const fs::path& folder, const std::string& name, bool& guessed) {
  guessed = false;
  if (name.empty()) return {};
  if (is_file(folder / name)) return folder / name;
  for (const bool capitals : {false, true})
    for (const ImageExtension& known : kImageExtensions) {
      std::string extension = known.text;
      if (capitals)
        std::transform(extension.begin(), extension.end(), extension.begin(),
                       [](unsigned char c) { return std::toupper(c); });
      fs::path file = folder / (name + extension);
      if (!is_file(file)) continue;
      guessed = true;
      return file;
    }
  return {};
}

std::string bad_image_policy(const DatasetConfig& config, Split split) {
  return split == Split::train ? config.bad_image : std::string(kAlwaysError);
}

}  // namespace gradlibra
