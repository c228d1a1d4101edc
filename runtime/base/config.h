// SPDX-License-Identifier: MIT
// Typed configuration: a struct lists its fields once, and that list reads YAML, writes the resolved file, explains
// every key and finds the nearest known key for a misspelt one.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gradlibra {

// The values a number may have; a list's range holds for each of its numbers. Numbers that are not finite are in no
// range.
struct NumberRange {
  double least = -std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::infinity();
  bool above = false;     // `least` itself is outside
  int multiple_of = 0;    // 0: of anything
  bool declared = false;  // false: nobody has said what makes sense
  [[nodiscard]] bool holds(double value) const {
    return std::isfinite(value) && (above ? value > least : value >= least) && value <= most &&
           (multiple_of == 0 || std::fmod(value, multiple_of) == 0);
  }
  [[nodiscard]] std::string to_string() const;  // "at least 1", "above 0", "0 to 1", "any finite number"
};
[[nodiscard]] constexpr NumberRange any_number() { return {.declared = true}; }
[[nodiscard]] constexpr NumberRange at_least(double least) { return {.least = least, .declared = true}; }
[[nodiscard]] constexpr NumberRange above(double bound) { return {.least = bound, .above = true, .declared = true}; }
[[nodiscard]] constexpr NumberRange multiple_of(int number, double most) {
  return {.least = static_cast<double>(number), .most = most, .multiple_of = number, .declared = true};
}
[[nodiscard]] constexpr NumberRange between(double least, double most) {
  return {.least = least, .most = most, .declared = true};
}

// A configuration struct has   void describe(ConfigVisitor& v)   that calls field/choice/section for each member, e.g.
//   struct ScheduleConfig {
//     double lr = 0.002;
//     void describe(ConfigVisitor& v) { v.field("lr", lr, "learning rate at total batch `base_batch`", at_least(0)); }
//   };
// The member's initial value is the default. Documentation is one line, with units. Numbers declare their range, which
// a test of the whole configuration checks.
class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;
  virtual void field(std::string_view key, bool& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, int& value, std::string_view doc, NumberRange range = {}) = 0;
  virtual void field(std::string_view key, int64_t& value, std::string_view doc, NumberRange range = {}) = 0;
  virtual void field(std::string_view key, double& value, std::string_view doc, NumberRange range = {}) = 0;
  virtual void field(std::string_view key, std::string& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, std::vector<int>& value, std::string_view doc, NumberRange range = {}) = 0;
  virtual void field(std::string_view key, std::vector<double>& value, std::string_view doc,
                     NumberRange range = {}) = 0;
  virtual void field(std::string_view key, std::vector<std::string>& value, std::string_view doc) = 0;
  // Name to list of names, in the file's order by name: class groups.
  virtual void field(std::string_view key, std::map<std::string, std::vector<std::string>>& value,
                     std::string_view doc) = 0;
  // A string out of a fixed set; anything else is an error that lists the set.
  virtual void choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed,
                      std::string_view doc) = 0;

  template <class Section>
  void section(std::string_view key, Section& value, std::string_view doc) {
    enter(key, doc);
    value.describe(*this);
    leave();
  }

 protected:
  virtual void enter(std::string_view key, std::string_view doc) = 0;
  virtual void leave() = 0;
};

// A configuration that does not read; the message says where and what.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Reads `file` (following `base: other.yaml`, relative to the file, any depth, cycles refused; keys of the file win;
// mappings merge, lists replace), applies overrides "key.path=value" in order, and fills
// `config` through describe(). Unknown key, wrong type, value outside a choice, duplicate key, missing file, file over
// 1 MB, number out of its range, malformed override: ConfigError whose message names file, line where there is one, key
// path, what was found, what was expected, and the nearest known key.
class ConfigSource {
 public:
  // An empty path: defaults and overrides only.
  ConfigSource(const std::filesystem::path& file, const std::vector<std::string>& overrides);
  // The same from text (a resolved configuration stored in a checkpoint); `name` stands for the file in messages.
  static ConfigSource from_text(std::string_view yaml, std::string_view name,
                                const std::vector<std::string>& overrides = {});
  ConfigSource(ConfigSource&&) noexcept;
  ~ConfigSource();

  template <class Config>
  void read_into(Config& config) const {
    auto visitor = reader();
    config.describe(*visitor);
    finish(*visitor);
  }

 private:
  ConfigSource();
  [[nodiscard]] std::unique_ptr<ConfigVisitor> reader() const;
  void finish(ConfigVisitor& reader) const;  // refuses keys that no field asked for
  struct State;
  std::unique_ptr<State> state_;
};

// The resolved configuration as YAML that read_into() restores exactly (doubles round-trip).
std::unique_ptr<ConfigVisitor> make_config_writer(std::string& out, bool with_docs);
template <class Config>
[[nodiscard]] std::string to_yaml(const Config& config, bool with_docs = false) {
  std::string text;
  {
    auto visitor = make_config_writer(text, with_docs);  // writes `text` when it is destroyed
    Config copy = config;
    copy.describe(*visitor);
  }
  return text;
}

// Every value of a configuration under its path, as to_yaml would write it: ("schedule.lr", "0.01").
using ConfigValues = std::vector<std::pair<std::string, std::string>>;
std::unique_ptr<ConfigVisitor> make_config_lister(ConfigValues& out);
template <class Config>
[[nodiscard]] ConfigValues values_of(const Config& config) {
  ConfigValues values;
  Config copy = config;
  copy.describe(*make_config_lister(values));
  return values;
}
// "schedule.lr: 0.01, now 0.02" for each path whose values differ, or that one side lacks.
[[nodiscard]] std::vector<std::string> config_differences(const ConfigValues& before, const ConfigValues& now);

}  // namespace gradlibra
