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
  void field(std::string_view key, int& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, int64_t& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, double& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, std::string& value, std::string_view doc) override { line(key, scalar(value), doc); }
  void field(std::string_view key, std::vector<int>& value, std::string_view doc) override { list(key, value, doc); }
  void field(std::string_view key, std::vector<double>& value, std::string_view doc) override { list(key, value, doc); }
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

}  // namespace

std::unique_ptr<ConfigVisitor> make_config_writer(std::string& out, bool with_docs) {
  return std::make_unique<ConfigWriter>(out, with_docs);
}

}  // namespace gradlibra
