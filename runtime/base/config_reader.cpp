// SPDX-License-Identifier: MIT
// Fills configuration structs from the tree, and explains what does not fit.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "runtime/base/config_tree.h"
#include "runtime/base/numbers.h"

namespace gradlibra {
namespace {

using Kind = ConfigNode::Kind;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '-') c = '_';
  }
  return result;
}

// Levenshtein distance; upper and lower case, '-' and '_' are the same.
int edit_distance(std::string_view left, std::string_view right) {
  const std::string a = lower(left), b = lower(right);
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string_view leaf_of(std::string_view path) { return path.substr(path.rfind('.') + 1); }  // npos + 1 is 0
std::string_view parent_of(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

std::string shortened(const std::string& text) { return text.size() <= 60 ? text : text.substr(0, 57) + "..."; }

std::string describe_found(const ConfigNode& node) {
  switch (node.kind) {
    case Kind::null:
      return "nothing";
    case Kind::scalar:
      return (node.quoted ? "the string \"" + shortened(node.text) + '"' : "'" + shortened(node.text) + "'");
    case Kind::sequence:
      return "a list";
    case Kind::mapping:
      return "a section";
  }
  return "nothing";
}

std::string join(const std::vector<std::string>& words) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : ", ") + word;
  return result;
}

template <class Integer>
std::optional<Integer> to_integer(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  return parse_number<Integer>(text);
}

std::optional<double> to_double(std::string_view text) {
  double sign = 1;
  std::string_view digits = text;
  if (digits.starts_with('+') || digits.starts_with('-')) {
    sign = digits[0] == '-' ? -1 : 1;
    digits.remove_prefix(1);
  }
  if (digits == ".inf" || digits == ".Inf" || digits == ".INF") return sign * std::numeric_limits<double>::infinity();
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return std::numeric_limits<double>::quiet_NaN();
  if (digits.empty() || !((digits[0] >= '0' && digits[0] <= '9') || digits[0] == '.')) return std::nullopt;
  const std::optional<double> value = parse_number<double>(digits);
  if (!value) return std::nullopt;
  return std::copysign(*value, sign);
}

class ConfigReader : public ConfigVisitor {
 public:
  explicit ConfigReader(const ConfigNode& root) : sections_{{"", &root}} {}

  void field(std::string_view key, bool& value, std::string_view) override { read(key, value); }
  void field(std::string_view key, int& value, std::string_view, NumberRange range) override {
    read(key, value, range);
  }
  void field(std::string_view key, int64_t& value, std::string_view, NumberRange range) override {
    read(key, value, range);
  }
  void field(std::string_view key, double& value, std::string_view, NumberRange range) override {
    read(key, value, range);
  }
  void field(std::string_view key, std::string& value, std::string_view) override { read(key, value); }
  void field(std::string_view key, std::vector<int>& value, std::string_view, NumberRange range) override {
    read(key, value, range);
  }
  void field(std::string_view key, std::vector<double>& value, std::string_view, NumberRange range) override {
    read(key, value, range);
  }
  void field(std::string_view key, std::vector<std::string>& value, std::string_view) override { read(key, value); }
  void field(std::string_view key, std::map<std::string, std::vector<std::string>>& value, std::string_view) override {
    read(key, value);
  }

  void choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed,
              std::string_view) override {
    const auto [path, node] = known(key, false);
    if (node == nullptr) return;
    std::string chosen;
    parse(path, *node, chosen);
    if (node->verbatim) chosen = node->text;
    if (std::find(allowed.begin(), allowed.end(), chosen) == allowed.end()) {
      std::string message = path + ": found " + describe_found(*node) + ", expected one of " + join(allowed);
      if (const std::string* near = nearest(chosen, allowed)) message += "; did you mean '" + *near + "'?";
      config_error(node->place, message);
    }
    value = chosen;
  }

  void refuse_unknown_keys() const {
    std::string message;
    int count = 0;
    find_unknown(*sections_.front().node, "", message, count);
    if (count > kMostReported) message += "\n... and " + std::to_string(count - kMostReported) + " more unknown keys";
    if (count > 0) throw ConfigError(message);
  }

 protected:
  void enter(std::string_view key, std::string_view) override {
    const auto [path, node] = known(key, true);
    if (node != nullptr && node->kind != Kind::mapping && node->kind != Kind::null)
      mismatch(path, *node, "a section with keys of its own");
    sections_.push_back({path, node != nullptr && node->kind == Kind::mapping ? node : nullptr});
  }
  void leave() override { sections_.pop_back(); }

 private:
  static constexpr int kMostReported = 8;
  struct Section {
    std::string path;
    const ConfigNode* node;  // nullptr: not in the file
  };

  std::pair<std::string, const ConfigNode*> known(std::string_view key, bool is_section) {
    const Section& section = sections_.back();
    std::string path = section.path.empty() ? std::string(key) : section.path + "." + std::string(key);
    known_.emplace(path, is_section);
    order_.push_back(path);
    const ConfigNode::Entry* entry = section.node != nullptr ? section.node->find(key) : nullptr;
    return {path, entry != nullptr ? entry->value.get() : nullptr};
  }

  [[noreturn]] static void mismatch(const std::string& path, const ConfigNode& node, const std::string& expected) {
    if (!node.problem.empty()) config_error(node.place, path + ": " + node.problem + "; expected " + expected);
    std::string message = path + ": found " + describe_found(node) + ", expected " + expected;
    if (node.kind == Kind::null) message += " (an empty value or null; quote it if you mean the word)";
    config_error(node.place, message);
  }

  template <class T>
  void read(std::string_view key, T& value) {
    const auto [path, node] = known(key, false);
    if (node == nullptr) return;
    T read_value{};
    parse(path, *node, read_value);
    value = std::move(read_value);
  }

  template <class T>
  void read(std::string_view key, T& value, const NumberRange& range) {
    const auto [path, node] = known(key, false);
    if (node == nullptr) return;
    T read_value{};
    parse(path, *node, read_value);
    require_in_range(path, *node, read_value, range);
    value = std::move(read_value);
  }

  template <class T>
  static void require_in_range(const std::string& path, const ConfigNode& node, const T& value,
                               const NumberRange& range) {
    if (range.declared && !range.holds(static_cast<double>(value))) mismatch(path, node, range.to_string());
  }
  template <class T>
  static void require_in_range(const std::string& path, const ConfigNode& node, const std::vector<T>& values,
                               const NumberRange& range) {
    for (size_t i = 0; i < values.size(); ++i)
      require_in_range(path + "[" + std::to_string(i) + "]", *node.items[i], values[i], range);
  }

  static void parse(const std::string& path, const ConfigNode& node, bool& value) {
    constexpr std::array<std::string_view, 3> yes{"true", "True", "TRUE"}, no{"false", "False", "FALSE"};
    const bool plain = node.kind == Kind::scalar && !node.quoted;
    value = plain && std::find(yes.begin(), yes.end(), node.text) != yes.end();
    if (!value && !(plain && std::find(no.begin(), no.end(), node.text) != no.end()))
      mismatch(path, node, "true or false");
  }
  static void parse(const std::string& path, const ConfigNode& node, int& value) {
    parse_integer(path, node, value, "an integer");
  }
  static void parse(const std::string& path, const ConfigNode& node, int64_t& value) {
    parse_integer(path, node, value, "an integer");
  }
  template <class Integer>
  static void parse_integer(const std::string& path, const ConfigNode& node, Integer& value,
                            const std::string& expected) {
    const auto number = node.kind == Kind::scalar && !node.quoted ? to_integer<Integer>(node.text) : std::nullopt;
    if (!number) {
      mismatch(path, node,
               expected + " from " + std::to_string(std::numeric_limits<Integer>::min()) + " to " +
                   std::to_string(std::numeric_limits<Integer>::max()));
    }
    value = *number;
  }
  static void parse(const std::string& path, const ConfigNode& node, double& value) {
    const auto number = node.kind == Kind::scalar && !node.quoted ? to_double(node.text) : std::nullopt;
    if (!number) mismatch(path, node, "a number");
    value = *number;
  }
  static void parse(const std::string& path, const ConfigNode& node, std::string& value) {
    if (node.kind != Kind::scalar && !meant_as_text(node)) mismatch(path, node, "a string");
    value = node.verbatim ? *node.verbatim : node.text;
  }
  template <class T>
  static void parse(const std::string& path, const ConfigNode& node, std::vector<T>& value) {
    if (node.kind != Kind::sequence) mismatch(path, node, "a list, as in [a, b]");
    for (size_t i = 0; i < node.items.size(); ++i) {
      T item{};
      parse(path + "[" + std::to_string(i) + "]", *node.items[i], item);
      value.push_back(std::move(item));
    }
  }
  static void parse(const std::string& path, const ConfigNode& node,
                    std::map<std::string, std::vector<std::string>>& value) {
    if (node.kind != Kind::mapping) mismatch(path, node, "names with lists, as in {rare: [a, b]}");
    for (const ConfigNode::Entry& entry : node.entries) parse(path + "." + entry.key, *entry.value, value[entry.key]);
  }

  // Of the command line: "a: b", "- a" and "# a" are words there, [a] and {a: b} can only be lists and mappings, and
  // null is no string unless quoted.
  static bool meant_as_text(const ConfigNode& node) {
    if (!node.verbatim) return false;
    const size_t first = node.verbatim->find_first_not_of(" \t"), last = node.verbatim->find_last_not_of(" \t");
    const std::string_view text = std::string_view(*node.verbatim).substr(first, last + 1 - first);
    if (node.kind == Kind::null) return text != "~" && lower(text) != "null";
    return text[0] != '[' && text[0] != '{';
  }

  // Closest of `words` if it is close enough to be a slip of the pen.
  static const std::string* nearest(const std::string& word, const std::vector<std::string>& words) {
    if (word.size() > 200) return nullptr;
    const std::string* best = nullptr;
    int best_distance = static_cast<int>(word.size()) / 2 + 1;
    for (const std::string& candidate : words) {
      const int distance = edit_distance(word, candidate);
      if (distance < best_distance) {
        best_distance = distance;
        best = &candidate;
      }
    }
    return best;
  }

  void find_unknown(const ConfigNode& node, const std::string& prefix, std::string& message, int& count) const {
    for (const ConfigNode::Entry& entry : node.entries) {
      const std::string path = prefix.empty() ? entry.key : prefix + "." + entry.key;
      const auto found = known_.find(path);
      // Nothing has read a key with a point in it, whatever path it spells.
      const bool dotted = entry.key.find('.') != std::string::npos;
      if (found == known_.end() || dotted) {
        if (++count > kMostReported) continue;
        message += (message.empty() ? "" : "\n") + to_string(entry.place) + ": unknown key '" + shortened(path) + "'" +
                   (found != known_.end() ? nested(entry.key) : suggestion(path));
      } else if (found->second && entry.value->kind == Kind::mapping) {
        find_unknown(*entry.value, path, message, count);
      }
    }
  }

  // How a file spells "schedule.epochs".
  static std::string nested(const std::string& key) {
    std::string text = "; a file nests its keys, as in ";
    size_t begin = 0;
    for (size_t dot = key.find('.'); dot != std::string::npos; begin = dot + 1, dot = key.find('.', begin))
      text += key.substr(begin, dot - begin) + ": {";
    text += key.substr(begin) + ": ..";
    return text + std::string(static_cast<size_t>(std::count(key.begin(), key.end(), '.')), '}');
  }

  // By whole path (a slip in the section) or by last key (the wrong section), whichever is nearer.
  [[nodiscard]] std::string suggestion(const std::string& path) const {
    if (path.size() > 200 || order_.empty()) return "";
    const std::string* best = nullptr;
    int best_distance = std::numeric_limits<int>::max();
    std::vector<std::string> siblings;
    for (const std::string& candidate : order_) {
      const bool same_section = parent_of(candidate) == parent_of(path);
      if (same_section) siblings.emplace_back(leaf_of(candidate));
      const int distance = std::min(edit_distance(path, candidate),
                                    edit_distance(leaf_of(path), leaf_of(candidate)) + (same_section ? 0 : 1));
      if (distance < best_distance) {
        best_distance = distance;
        best = &candidate;
      }
    }
    if (best_distance <= std::max(2, static_cast<int>(leaf_of(path).size()) / 3))
      return "; did you mean '" + *best + "'?";
    std::string message = "; the nearest known key is '" + *best + "'";
    if (!siblings.empty()) message += ", the keys here are " + join(siblings);
    return message;
  }

  std::vector<Section> sections_;
  std::map<std::string, bool, std::less<>> known_;  // path -> is a section
  std::vector<std::string> order_;
};

}  // namespace

std::unique_ptr<ConfigVisitor> ConfigSource::reader() const { return std::make_unique<ConfigReader>(*state_->root); }

void ConfigSource::finish(ConfigVisitor& reader) const {
  static_cast<const ConfigReader&>(reader).refuse_unknown_keys();
}

}  // namespace gradlibra
