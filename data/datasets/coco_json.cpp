// SPDX-License-Identifier: MIT
#include "data/datasets/coco_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string_view>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/utf8.h"

namespace gradlibra::coco {

namespace fs = std::filesystem;

namespace {

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

// Whether the last thing before the `byte`th character, which is the one that a parser stopped at, is a comma.
bool comma_before(const std::string& text, size_t byte) {
  const std::string_view before = std::string_view(text).substr(0, byte > 0 ? std::min(byte - 1, text.size()) : 0);
  const size_t last = before.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && before[last] == ',';
}

constexpr std::array<std::string_view, 3> kLists{"images", "annotations", "categories"};
constexpr std::array<std::string_view, 11> kFields{"id",       "file_name",   "width", "height",  "name",  "bbox",
                                                   "image_id", "category_id", "area",  "iscrowd", "ignore"};

// What of a file is kept while it is parsed, and which keys are there twice. The parser itself takes the last of two in
// silence. A list of flags for the object at hand is all that this needs.
class KeyFilter {
 public:
  KeyFilter(const fs::path& file, bool categories_only, std::vector<RepeatedKey>* repeated)
      : file_(file), categories_only_(categories_only), repeated_(repeated) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& value) {
    if (depth > kMostJsonLevels)
      throw std::runtime_error(fmt::format("{}: is nested more than {} deep", file_.string(), kMostJsonLevels));
    using Event = Json::parse_event_t;
    if (depth == 2 && (event == Event::object_start || event == Event::array_start || event == Event::value)) {
      ++entries_;  // of the list; `value` comes for those that are neither objects nor lists
      seen_fields_ = 0;
    }
    if (event != Event::key) return true;
    const auto& key = value.get_ref<const std::string&>();
    if (depth == 1) return keep_list(key);
    return depth != 3 || keep_field(key);
  }

 private:
  template <size_t N>
  static size_t place(const std::array<std::string_view, N>& names, std::string_view name) {
    return static_cast<size_t>(std::distance(names.begin(), std::find(names.begin(), names.end(), name)));
  }

  bool keep_list(const std::string& key) {
    list_ = place(kLists, key);
    entries_ = 0;
    if (list_ == kLists.size() || (categories_only_ && key != "categories")) {
      list_ = kLists.size();
      return false;
    }
    if (seen_lists_ & 1U << list_)
      throw std::runtime_error(
          fmt::format("{0}: has the key '{1}' twice: of two lists JSON keeps one, and what is in the other is lost; "
                      "join them into one list '{1}'",
                      file_.string(), key));
    seen_lists_ |= 1U << list_;
    return true;
  }

  bool keep_field(const std::string& key) {
    const size_t field = place(kFields, key);
    if (field == kFields.size()) return false;
    if (seen_fields_ & 1U << field && list_ < kLists.size()) report(key);
    seen_fields_ |= 1U << field;
    return true;
  }

  void report(const std::string& key) {
    RepeatedKey found{std::string(kLists[list_]), entries_ - 1, key};
    if (!repeated_ || found.list == "categories")
      throw std::runtime_error(fmt::format("{}: {}[{}] has the key '{}' twice: take one away", file_.string(),
                                           found.list, found.index, key));
    repeated_->push_back(std::move(found));
  }

  const fs::path& file_;
  const bool categories_only_;
  std::vector<RepeatedKey>* repeated_;
  size_t list_ = kLists.size();  // the one that is being read; kLists.size(): none of ours
  size_t entries_ = 0;           // of it, so far
  unsigned seen_lists_ = 0, seen_fields_ = 0;
};

// Takes the parser's events and makes the document of those that KeyFilter keeps. nlohmann's own way to filter looks
// through a list for something to remove after each of its entries: a hundred thousand of them take seconds, a million
// minutes.
class FilteredDocument {
 public:
  FilteredDocument(KeyFilter& filter, Json& document) : filter_(filter), document_(document) {}

  bool null() { return take(nullptr); }
  bool boolean(bool value) { return take(value); }
  bool number_integer(Json::number_integer_t value) { return take(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return take(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return take(value); }
  bool string(std::string& value) { return take(std::move(value)); }
  bool binary(Json::binary_t& value) { return take(std::move(value)); }
  bool start_object(size_t) { return open(Json::parse_event_t::object_start, Json::object()); }
  bool start_array(size_t) { return open(Json::parse_event_t::array_start, Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& key) {
    if (skipped_at_ >= 0) return true;
    if (filter_(depth_, Json::parse_event_t::key, key))
      member_ = &(*open_.back())[key];
    else
      skipped_at_ = depth_;
    return true;
  }
  template <class Error>
  bool parse_error(size_t, const std::string&, const Error& error) {
    throw error;
  }

 private:
  bool take(Json value) {
    if (skipped_at_ < 0) {
      filter_(depth_, Json::parse_event_t::value, value);
      put(std::move(value));
    } else if (skipped_at_ == depth_) {
      skipped_at_ = -1;
    }
    return true;
  }
  bool open(Json::parse_event_t event, Json empty) {
    filter_(depth_++, event, empty);  // also what is skipped has a depth
    if (skipped_at_ < 0) open_.push_back(put(std::move(empty)));
    return true;
  }
  bool close() {
    --depth_;
    if (skipped_at_ < 0)
      open_.pop_back();
    else if (skipped_at_ == depth_)
      skipped_at_ = -1;
    return true;
  }
  // Into the innermost object or list that is open; those never move while they are.
  Json* put(Json value) {
    if (open_.empty()) return &(document_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }

  KeyFilter& filter_;
  Json& document_;
  std::vector<Json*> open_;
  Json* member_ = nullptr;           // whose value comes next
  int depth_ = 0, skipped_at_ = -1;  // how many are open; at which of them the value that comes is passed over
};

}  // namespace

Json parse(const fs::path& file, bool categories_only, std::vector<RepeatedKey>* repeated) {
  std::string text = read_text(file, kMaxAnnotationBytes);
  quote_non_finite(text);
  KeyFilter filter(file, categories_only, repeated);
  Json document;
  FilteredDocument events(filter, document);
  try {
    Json::sax_parse(text.begin(), text.end(), &events);
  } catch (const Json::exception& error) {  // message: "[json.exception..] parse error at line 3, column 14: ..."
    const std::string_view what = error.what();
    const auto* parsed = dynamic_cast<const Json::parse_error*>(&error);
    const bool at_end = parsed && parsed->byte + 1 >= text.size();
    // A bracket that closes where a value should stand is no end that came too early.
    const bool closed =
        what.find("unexpected '}'") != std::string_view::npos || what.find("unexpected ']'") != std::string_view::npos;
    throw std::runtime_error(fmt::format(
        "{}: is not JSON{}: {}{}", file.string(), at_end && !closed ? ", for it ends too early (cut off?)" : "",
        what.substr(std::min(what.find("] ") + 2, what.size())),
        closed && comma_before(text, parsed->byte) ? "; a comma too many before it" : ""));
  }
  if (!document.is_object())
    throw std::runtime_error(file.string() + ": is not a COCO file: no JSON object at the top");
  return document;
}

const Json& member(const Json& object, const char* key) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() || found->is_discarded() ? nothing : *found;
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

std::optional<Id> id_of(const Json& value) {
  if (const std::optional<int64_t> whole = integer(value)) return Id{std::to_string(*whole)};
  if (value.is_number_float()) {
    constexpr double kExact = 9007199254740992.0;  // 2^53
    const double number = value.get<double>();
    if (number != std::floor(number) || std::abs(number) > kExact) return std::nullopt;
    return Id{std::to_string(static_cast<int64_t>(number)), IdType::fraction};
  }
  if (!value.is_string()) return std::nullopt;
  const std::string text(trim(value.get_ref<const std::string&>()));
  if (text.empty()) return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool numeric = error == std::errc{} && end == text.data() + text.size() && std::to_string(number) == text;
  return Id{escaped(text), IdType::text, numeric};
}
int64_t number_of(const Id& id) { return std::stoll(id.text); }

int IdTypes::several() const {
  return static_cast<int>(std::count_if(counts.begin(), counts.end(), [](int64_t c) { return c > 0; }));
}

std::string IdTypes::text() const {
  std::string result;
  const char* names[3] = {"whole numbers", "numbers with a point", "text"};
  for (size_t i = 0; i < counts.size(); ++i)
    if (counts[i] > 0) result += fmt::format("{}{} {}", result.empty() ? "" : ", ", counts[i], names[i]);
  return result;
}

std::string spell(const Json& value) {
  if (value.is_null()) return "missing or null";
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  return text;
}

std::string spell_box(const Json& box) {
  if (!box.is_array()) return spell(box);
  std::string text;
  for (const Json& value : box) {
    const std::string plain = value == "a"         ? "NaN"
                              : value == "nfinit"  ? "Infinity"
                              : value == "Infinit" ? "-Infinity"
                                                   : spell(value);
    text += (text.empty() ? "" : ",") + plain;
  }
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  return "[" + text + "]";
}

}  // namespace gradlibra::coco
