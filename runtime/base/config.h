// SPDX-License-Identifier: MIT
// Typed configuration: a struct lists its fields once, and that list reads YAML, writes the resolved file, explains
// every key and finds the nearest known key for a misspelt one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gradlibra {

// A configuration struct has   void describe(ConfigVisitor& v)   that calls field/choice/section for each member, e.g.
//   struct ScheduleConfig {
//     double lr = 0.002;
//     void describe(ConfigVisitor& v) { v.field("lr", lr, "learning rate at total batch `base_batch`"); }
//   };
// The member's initial value is the default. Documentation is one line, with units.
class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;
  virtual void field(std::string_view key, bool& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, int& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, int64_t& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, double& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, std::string& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, std::vector<int>& value, std::string_view doc) = 0;
  virtual void field(std::string_view key, std::vector<double>& value, std::string_view doc) = 0;
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

// Reads `file` (following `base: other.yaml`, relative to the file, any depth, cycles refused; keys of the file win;
// mappings merge, lists replace), applies overrides "key.path=value" (value in YAML syntax) in order, and fills
// `config` through describe(). Unknown key, wrong type, value outside a choice, duplicate key, missing file, file over
// 1 MB, malformed override: ConfigError whose message names file, line where there is one, key path, what was found,
// what was expected, and the nearest known key.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

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

}  // namespace gradlibra
