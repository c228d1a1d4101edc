// SPDX-License-Identifier: MIT
#include "engine/coco_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "data/datasets/coco_json.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/utf8.h"

namespace gradlibra {

namespace {

constexpr int64_t kMaxResultBytes = int64_t{4} << 30;

using Json = nlohmann::json;
using coco::spell;

const Json& field(const Json& entry, const char* name) {
  const auto found = entry.find(name);
  if (found == entry.end()) throw std::runtime_error(fmt::format("has no {}", name));
  return *found;
}

// Finite also as what metrics compute with.
template <class T>
T number(const Json& value, const std::string& name) {
  if (!value.is_number()) throw std::runtime_error(fmt::format("{} is {}, not a number", name, spell(value)));
  const auto result = value.get<double>();
  if (!(std::abs(result) <= std::numeric_limits<T>::max()))
    throw std::runtime_error(fmt::format("{} is {}, which is too large", name, spell(value)));
  return static_cast<T>(result);
}

// What metrics can take, and a detector does not give: told of once for all entries.
struct Oddity {
  void add(size_t entry, const Json& value) {
    if (count++ == 0) first = fmt::format("entry {}, {}", entry, spell(value));
  }
  int64_t count = 0;
  std::string first;
};

class Reader {
 public:
  explicit Reader(const Dataset& dataset) {
    for (size_t i = 0; i < dataset.images.size(); ++i) images_[dataset.images[i].id] = i;
    for (size_t c = 0; c < dataset.classes.size(); ++c) {
      names_[dataset.classes[c]] = static_cast<int>(c);
      const auto id = dataset.category_ids.find(dataset.classes[c]);
      ids_[id == dataset.category_ids.end() ? static_cast<int64_t>(c) : id->second] = static_cast<int>(c);
    }
    for (const auto& [id, name] : dataset.category_names)
      if (const auto known = names_.find(name); known != names_.end()) ids_[id] = known->second;
  }

  void add(size_t place, const Json& entry, Detections& detections) {
    if (!entry.is_object()) throw std::runtime_error(fmt::format("is {}, not an object", spell(entry)));
    Detection found;
    const size_t image = image_of(field(entry, "image_id"));
    found.label = label_of(entry);
    const Json& score = field(entry, "score");
    found.score = number<double>(score, "score");
    const Json& sides = field(entry, "bbox");
    if (!sides.is_array()) throw std::runtime_error(fmt::format("bbox is {}, not [x, y, width, height]", spell(sides)));
    if (sides.size() != 4) throw std::runtime_error(fmt::format("bbox has {} numbers, not 4", sides.size()));
    std::array<float, 4> box{};
    for (size_t i = 0; i < box.size(); ++i) box[i] = number<float>(sides[i], fmt::format("bbox[{}]", i));
    found.box = {box[0], box[1], box[0] + box[2], box[1] + box[3]};
    if (!std::isfinite(found.box.x2) || !std::isfinite(found.box.y2))
      throw std::runtime_error(fmt::format("bbox {} is too large", spell(sides)));
    if (found.score < 0 || found.score > 1) scores_.add(place, score);
    if (box[2] < 0 || box[3] < 0) boxes_.add(place, sides);
    detections[image].push_back(found);
  }

  void tell(const std::string& file, const std::function<void(const std::string&)>& warn) const {
    if (scores_.count > 0)
      warn(fmt::format("{}: {} scores are outside of 0 to 1 (the first: {})", file, scores_.count, scores_.first));
    if (boxes_.count > 0)
      warn(fmt::format("{}: {} boxes are of negative width or height (the first: {})", file, boxes_.count,
                       boxes_.first));
  }

 private:
  [[nodiscard]] size_t image_of(const Json& id) const {
    auto image = id.is_string() ? images_.find(id.get_ref<const std::string&>()) : images_.end();
    if (image == images_.end())
      if (const std::optional<coco::Id> read = coco::id_of(id)) image = images_.find(read->text);
    if (image == images_.end())
      throw std::runtime_error(fmt::format("image_id {} is no image of the split", spell(id)));
    return image->second;
  }

  [[nodiscard]] int label_of(const Json& entry) const {
    if (const auto category = entry.find("category"); category != entry.end()) {
      if (!category->is_string()) throw std::runtime_error(fmt::format("category is {}, not text", spell(*category)));
      const auto name = names_.find(category->get_ref<const std::string&>());
      if (name == names_.end()) throw std::runtime_error(fmt::format("category {} is no class", spell(*category)));
      return name->second;
    }
    const Json& given = field(entry, "category_id");
    const std::optional<coco::Id> read = coco::id_of(given);
    if (!read || !read->numeric)
      throw std::runtime_error(fmt::format("category_id {} is no whole number", spell(given)));
    const auto id = ids_.find(coco::number_of(*read));
    if (id == ids_.end()) throw std::runtime_error(fmt::format("category_id {} is no class", spell(given)));
    return id->second;
  }

  std::map<std::string, size_t> images_;
  std::map<std::string, int> names_;
  std::map<int64_t, int> ids_;
  Oddity scores_, boxes_;
};

// The place is counted from the text: that of the parser is of the last byte that it has read.
[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& text, const Json::parse_error& error) {
  if (const std::string problem = encoding_problem(text); !problem.empty())
    throw std::runtime_error(file.string() + ": " + problem);
  const size_t at = std::min(error.byte > 0 ? error.byte - 1 : 0, text.size());
  const std::string_view before = std::string_view(text).substr(0, at), rest = std::string_view(text).substr(at);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t column = at - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1) + 1;
  const std::string_view what = error.what();
  const size_t place = what.find("column"), begin = place == std::string_view::npos ? place : what.find(": ", place);
  std::string why = escaped(begin == std::string_view::npos ? what : what.substr(begin + 2));
  for (const char* word : {"NaN", "Infinity"})
    if (rest.starts_with(word))
      why = fmt::format("{}, which is no JSON number; leave out such detections, or write null for other values", word);
  if (what.find("unexpected end of input") != std::string_view::npos) why = "it ends too early (cut off?)";
  throw std::runtime_error(
      fmt::format("{}: line {}, column {}: is no JSON list of detections: {}", file.string(), line, column, why));
}

// The parser itself takes the last of two values in silence, and with a callback it takes time by the square of the
// list.
class KeyCheck : public nlohmann::json_sax<Json> {
 public:
  bool start_object(size_t) override {
    if (depth_++ == 1) seen_.clear();
    return true;
  }
  bool key(std::string& key) override {
    if (depth_ != 2) return true;
    if (std::find(seen_.begin(), seen_.end(), key) != seen_.end())
      throw std::runtime_error(fmt::format("entry {}: has the key '{}' twice: take one away", entry_, escaped(key)));
    seen_.push_back(key);
    return true;
  }
  bool end_object() override { return end(); }
  bool start_array(size_t) override {
    ++depth_;
    return true;
  }
  bool end_array() override { return end(); }
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(int64_t) override { return value(); }
  bool number_unsigned(uint64_t) override { return value(); }
  bool number_float(double, const std::string&) override { return value(); }
  bool string(std::string&) override { return value(); }
  bool binary(Json::binary_t&) override { return value(); }
  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  bool value() {
    entry_ += depth_ == 1;
    return true;
  }
  bool end() {
    --depth_;
    return value();
  }

  int depth_ = 0;
  int64_t entry_ = 0;
  std::vector<std::string> seen_;  // of the entry at hand: a few
};

Json parse(const std::filesystem::path& file) {
  const std::string text = read_file(file, kMaxResultBytes);
  if (nests_deeper(text))
    throw std::runtime_error(
        fmt::format("{}: is no JSON list of detections: nests deeper than {} levels", file.string(), kMostJsonLevels));
  try {
    Json entries = Json::parse(text);
    KeyCheck check;
    if (entries.is_array()) Json::sax_parse(text, &check);
    return entries;
  } catch (const Json::parse_error& error) {
    refuse(file, text, error);
  } catch (const Json::exception& error) {  // a number beyond any range
    const std::string_view what = error.what();
    throw std::runtime_error(file.string() + ": is no JSON list of detections: " +
                             escaped(what.substr(std::min(what.find("] ") + 2, what.size()))));
  } catch (const std::runtime_error& error) {  // of the check
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

}  // namespace

Detections read_coco_results(const std::filesystem::path& file, const Dataset& dataset,
                             const std::function<void(const std::string&)>& warn) {
  const Json entries = parse(file);
  if (!entries.is_array())
    throw std::runtime_error(fmt::format("{}: is no JSON list of detections, but {}", file.string(),
                                         entries.is_object() ? "an object" : "a single value"));
  Reader reader(dataset);
  Detections detections(dataset.images.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    try {
      reader.add(i, entries[i], detections);
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("{}: entry {}: {}", file.string(), i, error.what()));
    }
  }
  if (warn) reader.tell(file.string(), warn);
  return detections;
}

std::string corners_hint(const Dataset& dataset, const Detections& detections) {
  int64_t boxes = 0, leaving = 0, corners = 0;
  for (size_t i = 0; i < detections.size(); ++i) {
    const auto width = static_cast<float>(dataset.images[i].width),
               height = static_cast<float>(dataset.images[i].height);
    for (const Detection& d : detections[i]) {
      const float third = d.box.x2 - d.box.x1, fourth = d.box.y2 - d.box.y1;  // as the file has them
      ++boxes;
      leaving += d.box.x2 > width || d.box.y2 > height;
      corners += third > d.box.x1 && fourth > d.box.y1 && third <= width && fourth <= height;
    }
  }
  if (2 * leaving <= boxes || 20 * corners < 19 * boxes) return "";
  return fmt::format(
      "{} of {} boxes leave their pictures, and {} fit if they are x1, y1, x2, y2: COCO has x, y, width, height",
      leaving, boxes, corners);
}

}  // namespace gradlibra
