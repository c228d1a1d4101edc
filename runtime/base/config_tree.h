// SPDX-License-Identifier: MIT
// What a configuration file says, as a tree that remembers file and line; internal to runtime/base/config*.cpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/config.h"

namespace gradlibra {

struct ConfigPlace {
  std::shared_ptr<const std::string> file;  // or "command line 'key=value'"
  int line = 0;                             // from 1; 0: none
};

// Immutable once parsed, so that aliases share it. `size` and `height` count what a walk over the expanded tree would
// meet: they bound "billion laughs" files.
struct ConfigNode {
  enum class Kind { null, scalar, sequence, mapping };
  using Ptr = std::shared_ptr<const ConfigNode>;
  struct Entry {
    std::string key;
    ConfigPlace place;
    Ptr value;
  };

  Kind kind = Kind::null;
  ConfigPlace place;
  std::string text;     // scalar
  bool quoted = false;  // scalar
  // Of a value from the command line: what a string takes, unless quotes enclosed all of it. YAML would end it at " #",
  // or read "a: b" as a mapping.
  std::optional<std::string> verbatim;
  std::string problem;         // such a value is not YAML, why: only a string can take it
  std::vector<Ptr> items;      // sequence
  std::vector<Entry> entries;  // mapping: in the file's order, keys unique
  int64_t size = 1;
  int height = 1;

  [[nodiscard]] const Entry* find(std::string_view key) const;
};

inline constexpr int64_t kMaxConfigBytes = 1 << 20;
inline constexpr int64_t kMaxConfigNodes = 100'000;
inline constexpr int kMaxConfigDepth = 32;

[[nodiscard]] std::string to_string(const ConfigPlace& place);  // "file:line"
[[noreturn]] void config_error(const ConfigPlace& place, const std::string& message);

// One YAML document. ConfigError: not YAML, over the limits above, duplicate keys, keys that are not plain text, tags,
// merge keys, a second document. Null when the text is empty.
[[nodiscard]] ConfigNode::Ptr parse_config(std::string_view text, const std::shared_ptr<const std::string>& file,
                                           bool with_lines);

// `top` over `below`: mappings merge by key, everything else replaces; an empty section changes nothing.
[[nodiscard]] ConfigNode::Ptr merge_config(const ConfigNode::Ptr& below, const ConfigNode::Ptr& top);

struct ConfigSource::State {
  ConfigNode::Ptr root;  // a mapping, `base` taken out
};

}  // namespace gradlibra
