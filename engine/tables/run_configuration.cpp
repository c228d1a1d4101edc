// SPDX-License-Identifier: MIT
#include "engine/tables/run_configuration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace gradlibra {

ConfigKeys keys_of(const std::string& yaml) {
  ConfigKeys keys;
  std::vector<std::pair<size_t, std::string>> path;  // indentation and key
  size_t begin = 0;
  while (begin < yaml.size()) {
    const size_t end = std::min(yaml.find('\n', begin), yaml.size());
    const std::string line = yaml.substr(begin, end - begin);
    begin = end + 1;
    const size_t indent = line.find_first_not_of(' ');
    const size_t colon = line.find(':');
    if (indent == std::string::npos || colon == std::string::npos || line[indent] == '#') continue;
    while (!path.empty() && path.back().first >= indent) path.pop_back();
    path.emplace_back(indent, line.substr(indent, colon - indent));
    std::string key;
    for (const auto& [unused, part] : path) key += (key.empty() ? "" : ".") + part;
    std::string value = line.substr(colon + 1);
    value.erase(0, value.find_first_not_of(' '));
    keys[key] = value.substr(0, value.find("  # "));
  }
  return keys;
}

void keep_deciding(ConfigKeys& keys) {
  static const std::set<std::string> others = {"data.root",
                                               "loader.workers",
                                               "loader.retry_seconds",
                                               "loader.cache_mb",
                                               "train.seed",
                                               "train.pretrained",
                                               "train.log_every",
                                               "train.checkpoint_every",
                                               "train.keep_checkpoints",
                                               "train.class_gradients"};
  std::erase_if(keys, [](const auto& entry) {
    const std::string section = entry.first.substr(0, entry.first.find('.'));
    return section == "runtime" || section == "distributed" || others.contains(entry.first);
  });
}

ConfigKeys deciding_keys(const ExperimentConfig& config) {
  ConfigKeys keys = keys_of(to_yaml(config));
  keep_deciding(keys);
  return keys;
}

std::string difference(const ConfigKeys& a, const ConfigKeys& b) {
  constexpr size_t kMost = 5;
  std::vector<std::string> names;
  for (const auto& [name, value] : a)
    if (const auto other = b.find(name); other == b.end() || other->second != value) names.push_back(name);
  for (const auto& [name, value] : b)
    if (!a.contains(name)) names.push_back(name);
  const size_t more = names.size() > kMost ? names.size() - kMost : 0;
  names.resize(names.size() - more);
  return fmt::format("{}{}", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace gradlibra
