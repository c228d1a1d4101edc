// SPDX-License-Identifier: MIT
// Writes configuration structs as YAML that reads back to the same values, with the documentation as comments.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "runtime/base/config.h"

namespace gradlibra {
namespace {

constexpr size_t kColumns = 110;

bool plain_text(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (text.empty() || !(letter(text[0]) || text[0] == '/')) return false;
  for (const char c : text) {
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '.' && c != '/' && c != '-') return false;
  }
  constexpr std::array<std::string_view, 9> words{"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  std::string folded(text);
  for (char& c : folded) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::find(words.begin(), words.end(), folded) == words.end();
}

// Plain where YAML reads it back as the same text, otherwise double-quoted with escapes.
std::string scalar(std::string_view text) {
  if (plain_text(text)) return std::string(text);
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string result = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (byte == '"' || byte == '\\') {
      result += '\\';
      result += text[i];
    } else if (byte == '\n') {
      result += "\\n";
    } else if (byte == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      (result += "\\x") += hex[byte >> 4];
      result += hex[byte & 15];
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // C1 control characters, among them a line break
      (result += "\\x") += hex[next >> 4];
      result += hex[next & 15];
      ++i;
    } else if (text.substr(i, 3) == "\xE2\x80\xA8" || text.substr(i, 3) == "\xE2\x80\xA9" ||
               text.substr(i, 3) == "\xEF\xBB\xBF") {
      result += byte == 0xEF ? "\\uFEFF" : (text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029");
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result + '"';
}
std::string scalar(const std::string& text) { return scalar(std::string_view(text)); }
std::string scalar(bool value) { return value ? "true" : "false"; }
std::string scalar(int64_t value) { return std::to_string(value); }
std::string scalar(int value) { return std::to_string(value); }
std::string scalar(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::array<char, 40> digits{};
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;  // shortest that reads back exactly
  return {digits.data(), end};
}

class ConfigWriter : public ConfigVisitor {
 public:
  ConfigWriter(std::string& out, bool with_docs) : out_(out), with_docs_(with_docs) {}
  ~ConfigWriter() override { out_ = std::move(text_); }
  ConfigWriter(const ConfigWriter&) = delete;
  ConfigWriter& operator=(const ConfigWriter&) = delete;

  void field(std::string_view key, bool& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, int& value, std::string_view doc, NumberRange range) override {
    line(key, scalar(value), with_range(doc, range));
  }
  void field(std::string_view key, int64_t& value, std::string_view doc, NumberRange range) override {
    line(key, scalar(value), with_range(doc, range));
  }
  void field(std::string_view key, double& value, std::string_view doc, NumberRange range) override {
    line(key, scalar(value), with_range(doc, range));
  }
  void field(std::string_view key, std::string& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, std::vector<int>& value, std::string_view doc, NumberRange range) override {
    list(key, value, with_range(doc, range));
  }
  void field(std::string_view key, std::vector<double>& value, std::string_view doc, NumberRange range) override {
    list(key, value, with_range(doc, range));
  }
  void field(std::string_view key, std::vector<std::string>& value, std::string_view doc) override {
    list(key, value, doc);
  }
  void field(std::string_view key, std::map<std::string, std::vector<std::string>>& value,
             std::string_view doc) override {
    if (value.empty()) return line(key, "{}", doc);
    line(key, "", doc);
    ++depth_;
    for (auto& [name, words] : value) list(scalar(name), words, "");
    --depth_;
  }
  void choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed,
              std::string_view doc) override {
    std::string set;
    for (const std::string& word : allowed) set += (set.empty() ? "" : " | ") + word;
    line(key, scalar(value), std::string(doc) + (doc.empty() ? "" : ": ") + set);
  }

 protected:
  void enter(std::string_view key, std::string_view doc) override {
    if (with_docs_ && depth_ == 0 && !text_.empty()) text_ += '\n';
    if (with_docs_ && !doc.empty()) comment(doc);
    text_ += indent() + std::string(key) + ":\n";
    ++depth_;
  }
  void leave() override { --depth_; }

 private:
  [[nodiscard]] std::string indent() const { return std::string(2 * depth_, ' '); }

  // A range that says no more than "a number" is left out.
  static std::string with_range(std::string_view doc, const NumberRange& range) {
    const bool tells = std::isfinite(range.least) || std::isfinite(range.most);
    return std::string(doc) + (tells ? " (" + range.to_string() + ")" : "");
  }

  static std::string one_line(std::string_view doc) {
    std::string result(doc);
    for (char& c : result) {
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    }
    return result;
  }

  void comment(std::string_view doc) { text_ += indent() + "# " + one_line(doc) + "\n"; }

  // The comment behind the value, or above where the line would be long.
  void line(std::string_view key, const std::string& value, std::string_view doc) {
    const std::string code = indent() + std::string(key) + (value.empty() ? ":" : ": " + value);
    const bool behind = code.size() + 4 + doc.size() <= kColumns;
    if (with_docs_ && !doc.empty() && !behind) comment(doc);
    text_ += code;
    if (with_docs_ && !doc.empty() && behind) text_ += "  # " + one_line(doc);
    text_ += '\n';
  }

  template <class T>
  void list(std::string_view key, const std::vector<T>& values, std::string_view doc) {
    std::string flow;
    for (const T& value : values) flow += (flow.empty() ? "" : ", ") + scalar(value);
    if (flow.size() + key.size() + 2 * depth_ + 4 <= kColumns) return line(key, "[" + flow + "]", doc);
    line(key, "", doc);
    for (const T& value : values) text_ += indent() + "  - " + scalar(value) + "\n";
  }

  std::string& out_;
  bool with_docs_;
  std::string text_;
  size_t depth_ = 0;
};

class ConfigLister : public ConfigVisitor {
 public:
  explicit ConfigLister(ConfigValues& out) : out_(out) {}

  void field(std::string_view key, bool& value, std::string_view) override { add(key, scalar(value)); }
  void field(std::string_view key, int& value, std::string_view, NumberRange) override { add(key, scalar(value)); }
  void field(std::string_view key, int64_t& value, std::string_view, NumberRange) override { add(key, scalar(value)); }
  void field(std::string_view key, double& value, std::string_view, NumberRange) override { add(key, scalar(value)); }
  void field(std::string_view key, std::string& value, std::string_view) override { add(key, scalar(value)); }
  void field(std::string_view key, std::vector<int>& value, std::string_view, NumberRange) override {
    add(key, flow(value));
  }
  void field(std::string_view key, std::vector<double>& value, std::string_view, NumberRange) override {
    add(key, flow(value));
  }
  void field(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    add(key, flow(value));
  }
  void field(std::string_view key, std::map<std::string, std::vector<std::string>>& value, std::string_view) override {
    std::string text;
    for (const auto& [name, words] : value) text += (text.empty() ? "" : ", ") + scalar(name) + ": " + flow(words);
    add(key, "{" + text + "}");
  }
  void choice(std::string_view key, std::string& value, const std::vector<std::string>&, std::string_view) override {
    add(key, scalar(value));
  }

 protected:
  void enter(std::string_view key, std::string_view) override { path_ += std::string(key) + "."; }
  void leave() override { path_.erase(path_.rfind('.', path_.size() - 2) + 1); }  // npos + 1 is 0

 private:
  void add(std::string_view key, std::string value) { out_.emplace_back(path_ + std::string(key), std::move(value)); }
  template <class T>
  static std::string flow(const std::vector<T>& values) {
    std::string text;
    for (const T& value : values) text += (text.empty() ? "" : ", ") + scalar(value);
    return "[" + text + "]";
  }

  ConfigValues& out_;
  std::string path_;
};

}  // namespace

std::string NumberRange::to_string() const {
  const auto text = [](double bound) {
    return bound == std::trunc(bound) && std::abs(bound) < 1e15 ? scalar(static_cast<int64_t>(bound)) : scalar(bound);
  };
  if (multiple_of != 0) return "a multiple of " + text(multiple_of) + " from " + text(least) + " to " + text(most);
  const bool low = std::isfinite(least), high = std::isfinite(most);
  if (low && high) return (above ? "above " : "") + text(least) + (above ? ", at most " : " to ") + text(most);
  if (low) return (above ? "above " : "at least ") + text(least);
  return high ? "at most " + text(most) : "any finite number";
}

std::unique_ptr<ConfigVisitor> make_config_lister(ConfigValues& out) { return std::make_unique<ConfigLister>(out); }

std::vector<std::string> config_differences(const ConfigValues& before, const ConfigValues& now) {
  const std::map<std::string, std::string> old(before.begin(), before.end());
  std::map<std::string, std::string> gone = old;
  std::vector<std::string> differences;
  for (const auto& [path, value] : now) {
    const auto found = old.find(path);
    if (found == old.end()) {
      differences.push_back(path + ": now " + value);
    } else if (found->second != value) {
      differences.push_back(path + ": " + found->second + ", now " + value);
    }
    gone.erase(path);
  }
  for (const auto& [path, value] : gone) differences.push_back(path + ": " + value + ", now gone");
  return differences;
}

std::unique_ptr<ConfigVisitor> make_config_writer(std::string& out, bool with_docs) {
  return std::make_unique<ConfigWriter>(out, with_docs);
}

}  // namespace gradlibra
