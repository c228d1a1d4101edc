// SPDX-License-Identifier: MIT
// COCO: one JSON file with the images, categories and annotations of a split.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "data/datasets/annotations.h"
#include "data/datasets/coco_json.h"
#include "data/datasets/did_you_mean.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using namespace coco;
using Kind = Finding::Kind;
using Action = Finding::Action;

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
    const std::optional<Id> id_text = id_of(member(categories[i], "id"));
    const std::optional<int64_t> id = id_text && id_text->numeric ? std::optional(number_of(*id_text)) : std::nullopt;
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

// `iscrowd` in all the ways that files have it; missing: no. None for anything but a flag.
std::optional<bool> crowd_flag(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return flag_of(value.get_ref<const std::string&>());
  const double number = value.is_number() ? value.get<double>() : -1;
  if (number == 0 || number == 1) return number == 1;
  return std::nullopt;
}

// A side of a picture in the ways that ids have, too: 64, 64.0 and "64" are one.
std::optional<int64_t> size_of(const Json& value) {
  const std::optional<Id> whole = id_of(value);
  return whole && whole->numeric ? std::optional(number_of(*whole)) : std::nullopt;
}

// One pass over `images`, one over `annotations`.
class CocoReader {
 public:
  CocoReader(Reading& reading, const fs::path& file, const Json& document, const std::vector<RepeatedKey>& repeated)
      : reading_(reading),
        config_(reading.config),
        policy_(bad_image_policy(reading.config, reading.evaluation)),
        file_(file),
        document_(document),
        log_(reading.log) {
    for (const RepeatedKey& key : repeated)
      if (key.list == "images" || key.key != "id")  // nothing is found by the id of an annotation
        (key.list == "images" ? twice_in_image_ : twice_)[key.index] += " '" + key.key + "'";
  }

  RawSplit read() {
    categories_ = read_categories(document_, file_, &log_);
    read_images();
    read_annotations();
    std::vector<size_t> order(images_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return before(ids_[a], ids_[b]); });
    for (const size_t i : order) result_.images.push_back(std::move(images_[i]));
    result_.classes = class_names(categories_);
    for (const auto& [id, name] : categories_.names) result_.category_ids.emplace(name, id);  // of two ids the first
    result_.category_names = {categories_.names.begin(), categories_.names.end()};
    return std::move(result_);
  }

 private:
  [[nodiscard]] Finding finding(Kind kind, Action action, std::string where, std::string message) const {
    return {kind, action, file_.string(), std::move(where), std::move(message)};
  }
  // Numbers by value, before text.
  static bool before(const Id& a, const Id& b) {
    if (a.numeric != b.numeric) return a.numeric;
    return a.numeric ? number_of(a) < number_of(b) : a.text < b.text;
  }

  void read_images() {
    const Json& images = array_of(document_, "images", file_);
    std::map<std::string, std::string> listed;  // file name to its first place
    for (size_t i = 0; i < images.size(); ++i) {
      const std::string where = fmt::format("images[{}]", i);
      ++result_.images_listed;
      if (const auto twice = twice_in_image_.find(i); twice != twice_in_image_.end()) {
        log_.judge(finding(Kind::bad_annotation, Action::image_dropped, where,
                           fmt::format("has a key twice:{}; take one away", twice->second)),
                   "bad_image", policy_);
        continue;
      }
      const std::optional<Id> id = id_of(member(images[i], "id"));
      const Json& name = member(images[i], "file_name");
      if (!id || !name.is_string() || trim(name.get_ref<const std::string&>()).empty()) {
        log_.judge(finding(Kind::bad_annotation, Action::image_dropped, where,
                           fmt::format("an image needs a whole number or text as id ({}) and a file_name ({})",
                                       spell(member(images[i], "id")), spell(name))),
                   "bad_image", policy_);
        continue;
      }
      image_types_.add(*id);
      result_.text_ids = result_.text_ids || id->type == IdType::text;
      const auto [entry, inserted] = index_.emplace(id->text, images_.size());
      const auto [first, fresh] = listed.emplace(name.get<std::string>(), where);
      if (!inserted) {
        const bool same_file = !fresh && first->second == images_[entry->second].where;
        const Finding found = finding(Kind::duplicate_id, Action::image_dropped, where + ".id",
                                      fmt::format("id {} is taken by {}; the annotations go to that one", id->text,
                                                  images_[entry->second].where));
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

  void add_image(const Json& entry, const Id& id, const std::string& name, const std::string& where) {
    RawImage image;
    image.id = id.text;
    image.annotation_file = file_.string();
    image.where = where;
    image.image_name = name;
    const std::optional<int64_t> width = size_of(member(entry, "width")), height = size_of(member(entry, "height"));
    if (width.value_or(0) >= 1 && height.value_or(0) >= 1) {
      image.width = *width;
      image.height = *height;
    } else {
      log_.note(finding(Kind::bad_annotation, Action::none, where,
                        fmt::format("width {}, height {}: the image's own size is used", spell(member(entry, "width")),
                                    spell(member(entry, "height")))));
    }
    find(image, name, where + ".file_name");
    if (image.path.empty()) image.where = fmt::format("{}.file_name ('{}')", where, escaped(name));
    ids_.push_back(id);
    images_.push_back(std::move(image));
  }

  // In the folder of images, or beside the annotation file, as exports with a folder per split have it. Two pictures of
  // one name in both are never chosen between: they would be those of another split.
  void find(RawImage& image, const std::string& name, const std::string& where) {
    const fs::path folder = image_folder(config_, reading_.split), beside = file_.parent_path();
    FoundImage found = reading_.finder.find(folder, name);
    const FoundImage other = reading_.finder.find(beside, name);
    std::error_code error;
    if (!found.path.empty() && !other.path.empty() && !fs::equivalent(found.path, other.path, error) &&
        !same_content(found.path, other.path)) {
      image.path = found.path;
      image.usable = false;
      log_.judge(finding(Kind::ambiguous_image, Action::image_dropped, where,
                         fmt::format("'{}' is both {} and {}: say which with data.{}_image_dir", escaped(name),
                                     found.path.string(), other.path.string(), to_string(reading_.split))),
                 "bad_image", policy_);
      return;
    }
    if (found.path.empty()) found = other;
    if (found.path.empty()) found = reading_.finder.find(config_.root, name);
    image.path = found.path;
    if (!found.guessed) return;
    log_.note(
        finding(Kind::guessed_file_name, Action::fixed, where,
                fmt::format("there is no '{}'; it is taken to be {}", escaped(name), image.path.filename().string())));
    if (!found.others.empty())
      log_.note(finding(Kind::ambiguous_image, Action::none, where,
                        fmt::format("{} answers to '{}' as well", found.others.front().string(), escaped(name))));
  }

  static bool same_content(const fs::path& a, const fs::path& b) {
    std::error_code error;
    if (fs::file_size(a, error) != fs::file_size(b, error) || error) return false;
    return read_file(a, kMaxImageBytes) == read_file(b, kMaxImageBytes);
  }

  void read_annotations() {
    const Json& annotations = array_of(document_, "annotations", file_);
    std::unordered_map<std::string, size_t> seen;
    IdTypes types = image_types_;
    int64_t without_area = 0;
    for (size_t i = 0; i < annotations.size(); ++i) {
      const Json& entry = annotations[i];
      const std::string where = fmt::format("annotations[{}]", i);
      if (const std::optional<Id> id = id_of(member(entry, "id"))) {
        if (const auto [first, fresh] = seen.emplace(id->text, i); !fresh) {
          log_.note(
              finding(Kind::duplicate_id, Action::none, where + ".id",
                      fmt::format("id {} is that of annotations[{}] too; both are kept", id->text, first->second)));
        }
      }
      const std::optional<Id> image_id = id_of(member(entry, "image_id"));
      const auto image = image_id ? index_.find(image_id->text) : index_.end();
      if (image_id) types.add(*image_id);
      if (image == index_.end()) {
        ++result_.refused_boxes;
        // Nothing can be missed on a picture that is not there: "miss" drops it as well.
        const BoxPolicy policy = box_policy(config_, reading_.evaluation);
        log_.judge(finding(Kind::bad_annotation, Action::object_dropped, where + ".image_id",
                           fmt::format("{} is not the id of any entry of `images`", spell(member(entry, "image_id")))),
                   policy.key, policy.policy == "miss" ? "drop" : policy.policy);
        continue;
      }
      const std::optional<Id> category_id = id_of(member(entry, "category_id"));
      const auto category = category_id && category_id->numeric ? categories_.names.find(number_of(*category_id))
                                                                : categories_.names.end();
      if (category == categories_.names.end()) {
        ++result_.refused_boxes;
        log_.judge(finding(Kind::unknown_class, Action::object_dropped, where + ".category_id",
                           fmt::format("{} is not the id of any entry of `categories` ({})",
                                       spell(member(entry, "category_id")), known_categories())),
                   "unknown_class", config_.unknown_class);
        continue;
      }
      without_area += !member(entry, "area").is_number();
      add_object(entry, i, category->second, images_[image->second], where + ".bbox");
    }
    check_corners();
    if (ignored_ > 0) {
      log_.note(finding(Kind::ignore_flag, Action::none, fmt::format("annotations[{}].ignore", first_ignored_),
                        fmt::format("{} annotation{} \"ignore\": {}", ignored_, ignored_ == 1 ? " has" : "s have",
                                    reading_.evaluation ? "each is a truth all the same, as for pycocotools"
                                                        : "no target of training, as for MMDetection")));
    }
    if (without_area > 0) {
      log_.note(finding(Kind::bad_annotation, Action::fixed, "annotations[*].area",
                        fmt::format("{} annotations have no area; width * height of the box is used", without_area)));
    }
    if (types.several() > 1) {
      log_.note(finding(
          Kind::id_type, Action::none, "images[*].id, annotations[*].image_id",
          fmt::format("ids of images are of several types ({}): \"1\", 1 and 1.0 are taken as one", types.text())));
    }
  }

  // Corners where COCO has width and height: most boxes then leave their pictures, and none does when read as corners.
  void check_corners() {
    int64_t boxes = 0, leaving = 0;
    for (const RawImage& image : images_) {
      if (image.width == 0) continue;
      const auto width = static_cast<double>(image.width), height = static_cast<double>(image.height);
      for (const RawObject& object : image.objects) {
        if (object.unreadable || std::isnan(object.x2 + object.y2)) continue;
        const double x2 = object.x2 - object.x1, y2 = object.y2 - object.y1;  // the file's third and fourth number
        if (x2 <= object.x1 || y2 <= object.y1 || x2 > width || y2 > height) return;
        ++boxes;
        leaving += object.x2 > width || object.y2 > height;
      }
    }
    constexpr int64_t kEnough = 4;
    if (boxes < kEnough || 2 * leaving < boxes) return;
    log_.note(
        finding(Kind::outside_box, Action::none, "annotations[*].bbox",
                fmt::format("{} of {} boxes leave their pictures, and all fit if they are x1, y1, x2, y2: COCO has "
                            "x, y, width, height",
                            leaving, boxes)));
  }

  // "1 cell, 2 nucleus, ..".
  [[nodiscard]] std::string known_categories() const {
    std::string text;
    int shown = 0;
    constexpr int kShown = 8;
    for (const auto& [id, name] : categories_.names) {
      if (shown++ == kShown) return text + ", ..";
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", id, name);
    }
    return text;
  }

  void add_object(const Json& entry, size_t index, const std::string& class_name, RawImage& image, std::string where) {
    const Json& box = member(entry, "bbox");
    RawObject object;
    object.class_name = class_name;
    object.where = std::move(where);
    object.spelled = spell_box(box);
    const Json& crowd = member(entry, "iscrowd");
    const std::optional<bool> flag = crowd_flag(crowd);
    if (!flag) {
      log_.note(finding(Kind::bad_annotation, Action::none, object.where,
                        fmt::format("iscrowd is {}, neither 0 nor 1: taken as 0", spell(crowd))));
    }
    object.crowd = flag.value_or(false);
    read_ignore(entry, index, object);
    if (const Json& area = member(entry, "area"); area.is_number()) object.area = area.get<double>();
    const auto twice = twice_.find(index);
    if (twice != twice_.end() || !box.is_array() || box.size() != 4) {
      ++result_.refused_boxes;
      object.unreadable = judge_unreadable(
          reading_, finding(Kind::bad_annotation, Action::object_dropped, object.where,
                            twice != twice_.end() ? fmt::format("has a key twice:{}; take one away", twice->second)
                                                  : fmt::format("{} is not [x, y, width, height]", object.spelled)));
      if (object.unreadable) image.objects.push_back(std::move(object));
      return;
    }
    const auto side = [&](size_t i) {
      return box[i].is_number() ? box[i].get<double>() : std::numeric_limits<double>::quiet_NaN();
    };
    for (const Json& value : box)
      if (value.is_string() && spell_box(Json::array({value})).find('"') != std::string::npos)
        object.hint = ": text in quotes where a number belongs";
    object.unit = std::all_of(box.begin(), box.end(), [](const Json& value) {
      return value.is_number() && value.get<double>() >= 0 && value.get<double>() <= 1;
    });
    object.x1 = side(0);
    object.y1 = side(1);
    object.x2 = side(0) + side(2);
    object.y2 = side(1) + side(3);
    image.objects.push_back(std::move(object));
  }

  // MMDetection takes no such object for a target of training; pycocotools writes iscrowd over the flag, so that in an
  // evaluation it is a truth like others.
  void read_ignore(const Json& entry, size_t index, RawObject& object) {
    const Json& value = member(entry, "ignore");
    const std::optional<bool> flag = crowd_flag(value);
    if (!flag) {
      log_.note(finding(Kind::bad_annotation, Action::none, object.where,
                        fmt::format("ignore is {}, neither 0 nor 1: taken as 0", spell(value))));
    }
    if (!flag.value_or(false)) return;
    if (ignored_++ == 0) first_ignored_ = index;
    object.difficult = !reading_.evaluation;
  }

  Reading& reading_;
  const DatasetConfig& config_;
  const std::string policy_;
  const fs::path& file_;
  const Json& document_;
  FindingLog& log_;
  RawSplit result_;
  Categories categories_;
  std::vector<RawImage> images_;
  std::vector<Id> ids_;  // of images_
  IdTypes image_types_;
  std::unordered_map<std::string, size_t> index_;  // image id to its place in images_
  int64_t ignored_ = 0;                            // annotations with "ignore", and the place of the first
  size_t first_ignored_ = 0;
  // Entries that have a key twice, by their places in `images` and `annotations`: which.
  std::unordered_map<size_t, std::string> twice_in_image_, twice_;
};

}  // namespace

RawSplit read_coco(Reading& reading) {
  const fs::path file = split_file(reading.config, reading.split);
  std::vector<RepeatedKey> repeated;
  const Json document = parse(file, /*categories_only=*/false, &repeated);
  return CocoReader(reading, file, document, repeated).read();
}

std::vector<std::string> read_coco_classes(const fs::path& file) {
  return class_names(read_categories(parse(file, /*categories_only=*/true), file, nullptr));
}

}  // namespace gradlibra
