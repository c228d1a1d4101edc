// SPDX-License-Identifier: MIT
// Configuration files with inheritance (`base:`) and command-line overrides, joined to one tree.
#include "runtime/base/config.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "runtime/base/config_tree.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

using Kind = ConfigNode::Kind;

std::string read_text(const std::filesystem::path& file, const std::string& asked_by) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    throw ConfigError(asked_by + file.string() + ": is a folder, not a configuration file");
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw ConfigError(asked_by + file.string() + ": cannot open the configuration file: " +
                      (errno != 0 ? std::strerror(errno) : "unknown reason"));
  }
  std::string text(static_cast<size_t>(kMaxConfigBytes) + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw ConfigError(file.string() + ": cannot read the configuration file");
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;  // one byte over the limit is refused by parse_config
}

ConfigNode::Ptr as_root(const ConfigNode::Ptr& node) {
  if (node->kind == Kind::mapping) return node;
  if (node->kind == Kind::null) {
    auto empty = std::make_shared<ConfigNode>(*node);
    empty->kind = Kind::mapping;
    return empty;
  }
  config_error(node->place, std::string("found ") + (node->kind == Kind::scalar ? "a single value" : "a list") +
                                ", expected 'key: value' lines");
}

ConfigNode::Ptr without_base(const ConfigNode::Ptr& node) {
  auto copy = std::make_shared<ConfigNode>(*node);
  std::erase_if(copy->entries, [](const ConfigNode::Entry& entry) { return entry.key == "base"; });
  return copy;
}

// The file over its base over the base's base.
ConfigNode::Ptr read_chain(std::filesystem::path file) {
  std::vector<ConfigNode::Ptr> layers;  // the file first
  std::vector<std::filesystem::path> seen;
  std::string asked_by;
  while (true) {
    const std::filesystem::path identity = std::filesystem::weakly_canonical(file);
    if (std::find(seen.begin(), seen.end(), identity) != seen.end()) {
      throw ConfigError(asked_by + "base: '" + file.string() + "' inherits from itself");
    }
    seen.push_back(identity);
    const auto name = std::make_shared<const std::string>(file.string());
    const ConfigNode::Ptr tree = as_root(parse_config(read_text(file, asked_by), name, true));
    layers.push_back(without_base(tree));
    const ConfigNode::Entry* base = tree->find("base");
    if (base == nullptr) break;
    if (base->value->kind != Kind::scalar || base->value->text.empty()) {
      config_error(base->place, "base: expected the path of another configuration file");
    }
    asked_by = to_string(base->place) + ": ";
    file = file.parent_path() / base->value->text;
  }
  ConfigNode::Ptr merged = layers.back();
  for (size_t i = layers.size() - 1; i-- > 0;) merged = merge_config(merged, layers[i]);
  return merged;
}

// The value of an override: YAML that also remembers its text, for keys that are strings.
ConfigNode::Ptr read_value(const std::string& value, const ConfigPlace& place) {
  auto node = std::make_shared<ConfigNode>();
  node->kind = Kind::scalar;
  node->quoted = true;
  node->place = place;
  const size_t first = value.find_first_not_of(" \t");
  if (first == std::string::npos) return node;  // "key=" is the empty string
  try {
    *node = *parse_config(value, place.file, false);
  } catch (const ConfigError& error) {
    if (static_cast<int64_t>(value.size()) > kMaxConfigBytes) throw;
    node->problem = error.what();
    node->problem.erase(0, place.file->size() + 2);  // the place is said again
  }
  const size_t last = value.find_last_not_of(" \t");
  const bool enclosed = node->problem.empty() && node->kind == Kind::scalar && node->quoted && last > first &&
                        value[first] == value[last] && (value[first] == '"' || value[first] == '\'');
  if (!enclosed) node->verbatim = value;
  return node;
}

// "a.b=value" as the tree  a: {b: value}.
ConfigNode::Ptr read_override(const std::string& text) {
  const auto origin = std::make_shared<const std::string>("command line '" + escaped(text.substr(0, 200)) + "'");
  const ConfigPlace place{origin, 0};
  // Checkpoints and logs hold the configuration, as text.
  if (find_invalid_utf8(text) != std::string::npos)
    config_error(place, "is not UTF-8 (Latin-1?): rename the file or folder, or name it through a link");
  const size_t equals = text.find('=');
  if (equals == std::string::npos) config_error(place, "expected key.path=value, as in schedule.lr=0.01");
  const std::string path = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);
  std::vector<std::string> keys(1);
  for (const char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  if (std::find(keys.begin(), keys.end(), "") != keys.end())
    config_error(place, "an empty key in '" + path + "'; expected key.path=value");
  if (static_cast<int>(keys.size()) >= kMaxConfigDepth) config_error(place, "too many keys in the path");
  if (path == "base") config_error(place, "'base' belongs in a file; name another file instead");

  ConfigNode::Ptr node = read_value(value, place);
  for (size_t i = keys.size(); i-- > 0;) {
    auto parent = std::make_shared<ConfigNode>();
    parent->kind = Kind::mapping;
    parent->place = place;
    parent->entries.push_back({keys[i], place, node});
    node = parent;
  }
  return node;
}

}  // namespace

ConfigSource::ConfigSource() : state_(std::make_unique<State>()) {}
ConfigSource::ConfigSource(ConfigSource&&) noexcept = default;
ConfigSource::~ConfigSource() = default;

ConfigSource::ConfigSource(const std::filesystem::path& file, const std::vector<std::string>& overrides)
    : ConfigSource() {
  if (file.empty()) {
    state_->root = as_root(parse_config("", std::make_shared<const std::string>("defaults"), false));
  } else {
    state_->root = read_chain(file);
  }
  for (const std::string& text : overrides) state_->root = merge_config(state_->root, read_override(text));
}

ConfigSource ConfigSource::from_text(std::string_view yaml, std::string_view name,
                                     const std::vector<std::string>& overrides) {
  ConfigSource source;
  source.state_->root = as_root(parse_config(yaml, std::make_shared<const std::string>(name), true));
  if (const ConfigNode::Entry* base = source.state_->root->find("base")) {
    config_error(base->place, "'base' is not possible in a stored configuration");
  }
  for (const std::string& text : overrides)
    source.state_->root = merge_config(source.state_->root, read_override(text));
  return source;
}

}  // namespace gradlibra
