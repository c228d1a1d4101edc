// SPDX-License-Identifier: MIT
// COCO: one JSON file with the images, categories and annotations of a split.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <unordered_map>

#include "data/datasets/annotations.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Kind = Finding::Kind;
using Action = Finding::Action;

// NaN and Infinity are not JSON, yet Python writes them. Each becomes a string of the same length, which is then
// reported as a box that is not a number, with its place, instead of stopping at the whole file.
void quote_non_finite(std::string& text) {
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && in_string) {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == 'N' || c == 'I')) {
      const std::string_view word = c == 'N' ? "NaN" : "Infinity";
      if (text.compare(i, word.size(), word) != 0) continue;
      const size_t begin = i > 0 && text[i - 1] == '-' ? i - 1 : i, end = i + word.size();
      text[begin] = text[end - 1] = '"';
      i = end - 1;
    }
  }
}

// The file with only the fields that are used: polygons and other bulk are dropped while parsing. Throws
// std::runtime_error with line and column.
Json parse(const fs::path& file, bool categories_only) {
  std::string text = read_file(file, kMaxAnnotationBytes);
  quote_non_finite(text);
  static const std::set<std::string> kTop{"images", "annotations", "categories"};
  static const std::set<std::string> kFields{"id",   "file_name", "width",       "height", "name",
                                             "bbox", "image_id",  "category_id", "area",   "iscrowd"};
  const auto keep = [&](int depth, Json::parse_event_t event, Json& value) {
    constexpr int kMaxDepth = 64;
    if (depth > kMaxDepth)
      throw std::runtime_error(fmt::format("{}: is nested more than {} deep", file.string(), kMaxDepth));
    if (event != Json::parse_event_t::key) return true;
    const auto& key = value.get_ref<const std::string&>();
    if (depth == 1) return categories_only ? key == "categories" : kTop.contains(key);
    return depth != 3 || kFields.contains(key);
  };
  Json document;
  try {
    document = Json::parse(text.begin(), text.end(), keep);
  } catch (const Json::exception& error) {  // message: "... parse error at line 3, column 14: ..."
    throw std::runtime_error(fmt::format("{}: is not JSON: {}", file.string(), error.what()));
  }
  if (!document.is_object())
    throw std::runtime_error(file.string() + ": is not a COCO file: no JSON object at the top");
  return document;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() || found->is_discarded() ? kNothing : *found;
}

const Json& array_of(const Json& document, const char* key, const fs::path& file) {
  const Json& value = member(document, key);
  if (!value.is_array())
    throw std::runtime_error(fmt::format("{}: is not a COCO file: no array '{}'", file.string(), key));
  return value;
}

std::optional<int64_t> integer(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return std::nullopt;
  if (!value.is_number_integer()) return std::nullopt;
  return value.get<int64_t>();
}

// For messages: short, whatever the file holds.
std::string spell(const Json& value) {
  if (value.is_null()) return "missing or null";
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  return text;
}

struct Categories {
  std::map<int64_t, std::string> names;  // in id order
};

Categories read_categories(const Json& document, const fs::path& file, FindingLog* log) {
  Categories result;
  std::map<std::string, int64_t> ids;
  const auto note = [&](Kind kind, Action action, size_t index, const std::string& message) {
    if (log) log->note({kind, action, file.string(), fmt::format("categories[{}]", index), message});
  };
  const Json& categories = array_of(document, "categories", file);
  for (size_t i = 0; i < categories.size(); ++i) {
    const std::optional<int64_t> id = integer(member(categories[i], "id"));
    const Json& name = member(categories[i], "name");
    if (!id || !name.is_string()) {
      note(Kind::bad_annotation, Action::none, i,
           fmt::format("id {} and name {} do not make a category; it is left out", spell(member(categories[i], "id")),
                       spell(name)));
      continue;
    }
    const auto [entry, inserted] = result.names.emplace(*id, name.get<std::string>());
    if (!inserted) {
      note(Kind::duplicate_id, Action::none, i,
           fmt::format("category id {} is '{}' and '{}'; the first counts", *id, entry->second,
                       name.get<std::string>()));
    } else if (const auto [first, fresh] = ids.emplace(entry->second, *id); !fresh) {
      note(Kind::duplicate_id, Action::none, i,
           fmt::format("categories {} and {} are both called '{}'; they are one class", first->second, *id,
                       entry->second));
    }
  }
  return result;
}

std::vector<std::string> class_names(const Categories& categories) {
  std::vector<std::string> names;
  for (const auto& [id, name] : categories.names) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// One pass over `images`, one over `annotations`.
class CocoReader {
 public:
  CocoReader(const DatasetConfig& config, Split split, const fs::path& file, const Json& document, FindingLog& log)
      : config_(config), policy_(bad_image_policy(config, split)), file_(file), document_(document), log_(log) {}

  RawSplit read() {
    categories_ = read_categories(document_, file_, &log_);
    read_images();
    read_annotations();
    std::vector<size_t> order(images_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ids_[a] < ids_[b]; });
    RawSplit result;
    for (const size_t i : order) result.images.push_back(std::move(images_[i]));
    result.classes = class_names(categories_);
    for (const auto& [id, name] : categories_.names) result.category_ids.emplace(name, id);  // of two ids the first
    return result;
  }

 private:
  [[nodiscard]] Finding finding(Kind kind, Action action, std::string where, std::string message) const {
    return {kind, action, file_.string(), std::move(where), std::move(message)};
  }

  void read_images() {
    const Json& images = array_of(document_, "images", file_);
    std::map<std::string, std::string> listed;  // file name to its first place
    for (size_t i = 0; i < images.size(); ++i) {
      const std::string where = fmt::format("images[{}]", i);
      const std::optional<int64_t> id = integer(member(images[i], "id"));
      const Json& name = member(images[i], "file_name");
      if (!id || !name.is_string()) {
        log_.judge(finding(Kind::bad_annotation, Action::image_dropped, where,
                           fmt::format("an image needs an integer id ({}) and a file_name ({})",
                                       spell(member(images[i], "id")), spell(name))),
                   "bad_image", policy_);
        continue;
      }
      const auto [entry, inserted] = index_.emplace(*id, images_.size());
      const auto [first, fresh] = listed.emplace(name.get<std::string>(), where);
      if (!inserted) {
        const bool same_file = !fresh && first->second == images_[entry->second].where;
        const Finding found = finding(
            Kind::duplicate_id, Action::image_dropped, where + ".id",
            fmt::format("id {} is taken by {}; the annotations go to that one", *id, images_[entry->second].where));
        if (same_file)
          log_.note(found);  // nothing is lost
        else
          log_.judge(found, "bad_image", policy_);
        continue;
      }
      if (!fresh) {
        log_.note(
            finding(Kind::duplicate_id, Action::none, where + ".file_name",
                    fmt::format("{} is listed already at {}: two images of one file", spell(name), first->second)));
      }
      add_image(images[i], *id, name.get<std::string>(), where);
    }
  }

  void add_image(const Json& entry, int64_t id, const std::string& name, const std::string& where) {
    RawImage image;
    image.id = std::to_string(id);
    image.annotation_file = file_.string();
    image.where = where;
    const std::optional<int64_t> width = integer(member(entry, "width")), height = integer(member(entry, "height"));
    if (width.value_or(0) >= 1 && height.value_or(0) >= 1) {
      image.width = *width;
      image.height = *height;
    } else {
      log_.note(finding(Kind::bad_annotation, Action::none, where,
                        fmt::format("width {}, height {}: the image's own size is used", spell(member(entry, "width")),
                                    spell(member(entry, "height")))));
    }
    bool guessed = false;
    image.path = find_image(image_folder(config_), name, guessed);
    if (guessed) {
      log_.note(finding(Kind::guessed_file_name, Action::fixed, where + ".file_name",
                        fmt::format("there is no '{}'; it is taken to be {}", name, image.path.filename().string())));
    }
    if (image.path.empty()) image.where = fmt::format("{}.file_name ('{}')", where, name);
    ids_.push_back(id);
    images_.push_back(std::move(image));
  }

  void read_annotations() {
    const Json& annotations = array_of(document_, "annotations", file_);
    std::unordered_map<int64_t, size_t> seen;
    int64_t without_area = 0;
    for (size_t i = 0; i < annotations.size(); ++i) {
      const Json& entry = annotations[i];
      const std::string where = fmt::format("annotations[{}]", i);
      if (const std::optional<int64_t> id = integer(member(entry, "id"))) {
        if (const auto [first, fresh] = seen.emplace(*id, i); !fresh) {
          log_.note(finding(Kind::duplicate_id, Action::none, where + ".id",
                            fmt::format("id {} is that of annotations[{}] too; both are kept", *id, first->second)));
        }
      }
      const std::optional<int64_t> image_id = integer(member(entry, "image_id"));
      const auto image = image_id ? index_.find(*image_id) : index_.end();
      if (image == index_.end()) {
        log_.judge(finding(Kind::bad_annotation, Action::object_dropped, where + ".image_id",
                           fmt::format("{} is not the id of any entry of `images`", spell(member(entry, "image_id")))),
                   "bad_box", config_.bad_box);
        continue;
      }
      const std::optional<int64_t> category_id = integer(member(entry, "category_id"));
      const auto category = category_id ? categories_.names.find(*category_id) : categories_.names.end();
      if (category == categories_.names.end()) {
        log_.judge(
            finding(Kind::unknown_class, Action::object_dropped, where + ".category_id",
                    fmt::format("{} is not the id of any entry of `categories`", spell(member(entry, "category_id")))),
            "unknown_class", config_.unknown_class);
        continue;
      }
      without_area += !member(entry, "area").is_number();
      add_object(entry, category->second, images_[image->second], where + ".bbox");
    }
    if (without_area > 0) {
      log_.note(finding(Kind::bad_annotation, Action::fixed, "annotations[*].area",
                        fmt::format("{} annotations have no area; width * height of the box is used", without_area)));
    }
  }

  void add_object(const Json& entry, const std::string& class_name, RawImage& image, std::string where) {
    const Json& box = member(entry, "bbox");
    if (!box.is_array() || box.size() != 4) {
      log_.judge(finding(Kind::bad_annotation, Action::object_dropped, std::move(where),
                         fmt::format("{} is not [x, y, width, height]", spell(box))),
                 "bad_box", config_.bad_box);
      return;
    }
    const auto side = [&](size_t i) {
      return box[i].is_number() ? box[i].get<double>() : std::numeric_limits<double>::quiet_NaN();
    };
    RawObject object;
    object.class_name = class_name;
    object.x1 = side(0);
    object.y1 = side(1);
    object.x2 = side(0) + side(2);
    object.y2 = side(1) + side(3);
    object.spelled = spell(box);
    const Json& crowd = member(entry, "iscrowd");
    object.crowd = crowd.is_boolean() ? crowd.get<bool>() : integer(crowd).value_or(0) != 0;
    if (const Json& area = member(entry, "area"); area.is_number()) object.area = area.get<double>();
    object.where = std::move(where);
    image.objects.push_back(std::move(object));
  }

  const DatasetConfig& config_;
  const std::string policy_;
  const fs::path& file_;
  const Json& document_;
  FindingLog& log_;
  Categories categories_;
  std::vector<RawImage> images_;
  std::vector<int64_t> ids_;                   // of images_
  std::unordered_map<int64_t, size_t> index_;  // image id to its place in images_
};

}  // namespace

RawSplit read_coco(const DatasetConfig& config, Split split, FindingLog& log) {
  const fs::path file = split_file(config, split);
  const Json document = parse(file, /*categories_only=*/false);
  return CocoReader(config, split, file, document, log).read();
}

std::vector<std::string> read_coco_classes(const fs::path& file) {
  return class_names(read_categories(parse(file, /*categories_only=*/true), file, nullptr));
}

}  // namespace gradlibra
