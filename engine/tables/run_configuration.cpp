// SPDX-License-Identifier: MIT
#include "engine/tables/run_configuration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
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

ConfigKeys deciding_keys(ExperimentConfig config) {
  const ExperimentConfig plain;
  config.runtime = plain.runtime;
  config.distributed = plain.distributed;
  config.data.root = plain.data.root;
  config.loader.workers = plain.loader.workers;
  config.loader.retry_seconds = plain.loader.retry_seconds;
  config.loader.cache_mb = plain.loader.cache_mb;
  config.train.seed = plain.train.seed;
  config.train.pretrained = plain.train.pretrained;
  config.train.log_every = plain.train.log_every;
  config.train.checkpoint_every = plain.train.checkpoint_every;
  config.train.keep_checkpoints = plain.train.keep_checkpoints;
  config.train.class_gradients = plain.train.class_gradients;
  return keys_of(to_yaml(config));
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
