// SPDX-License-Identifier: MIT
// YAML text to configuration tree through yaml-cpp's event interface: nothing is built before its limits are checked.
#include "runtime/base/config_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> file, bool with_lines)
      : file_(std::move(file)), with_lines_(with_lines) {}

  [[nodiscard]] ConfigNode::Ptr root() const { return root_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) config_error(place(mark), "a second YAML document ('---'); a configuration is one document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(ConfigNode::Kind::null, mark), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    auto node = make(ConfigNode::Kind::scalar, mark);
    node->text = value;
    node->quoted = tag == "!";
    add(node, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) config_error(place(mark), "an alias inside the value it stands for");
    add(found->second, 0);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::sequence, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::mapping, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    std::shared_ptr<ConfigNode> node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    std::string key;
    ConfigPlace key_place;
    std::unordered_map<std::string, int> lines;  // of the keys so far
  };

  [[nodiscard]] ConfigPlace place(const YAML::Mark& mark) const { return {file_, with_lines_ ? mark.line + 1 : 0}; }

  [[nodiscard]] std::shared_ptr<ConfigNode> make(ConfigNode::Kind kind, const YAML::Mark& mark) const {
    auto node = std::make_shared<ConfigNode>();
    node->kind = kind;
    node->place = place(mark);
    return node;
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!")
      config_error(place(mark), "YAML tags ('" + tag + "') are not supported");
  }

  void open(ConfigNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_tag(mark, tag);
    if (static_cast<int>(stack_.size()) >= kMaxConfigDepth) too_deep(place(mark));
    stack_.push_back({make(kind, mark), anchor, false, {}, {}, {}});
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    add(frame.node, frame.anchor);
  }

  [[noreturn]] static void too_deep(const ConfigPlace& at) {
    config_error(at, "nested more than " + std::to_string(kMaxConfigDepth) + " levels deep");
  }

  void add(const ConfigNode::Ptr& node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (stack_.empty()) {
      root_ = node;
      return;
    }
    Frame& frame = stack_.back();
    ConfigNode& parent = *frame.node;
    parent.size += node->size;
    parent.height = std::max(parent.height, node->height + 1);
    if (parent.size > kMaxConfigNodes) {
      config_error(node->place,
                   "more than " + std::to_string(kMaxConfigNodes) + " values (after aliases are expanded)");
    }
    if (static_cast<int>(stack_.size()) + node->height > kMaxConfigDepth) too_deep(node->place);

    if (parent.kind == ConfigNode::Kind::sequence) {
      parent.items.push_back(node);
    } else if (!frame.has_key) {
      if (node->kind != ConfigNode::Kind::scalar) config_error(node->place, "a key must be text");
      if (node->text == "<<" && !node->quoted)
        config_error(node->place, "merge keys ('<<') are not supported; use 'base: file.yaml'");
      const auto [known, fresh] = frame.lines.emplace(node->text, node->place.line);
      if (!fresh) {
        config_error(node->place, "duplicate key '" + node->text + "'" +
                                      (with_lines_ ? " (first on line " + std::to_string(known->second) + ")" : ""));
      }
      frame.key = node->text;
      frame.key_place = node->place;
      frame.has_key = true;
    } else {
      parent.entries.push_back({frame.key, frame.key_place, node});
      frame.has_key = false;
    }
  }

  std::shared_ptr<const std::string> file_;
  bool with_lines_;
  int documents_ = 0;
  ConfigNode::Ptr root_;
  std::vector<Frame> stack_;
  std::unordered_map<YAML::anchor_t, ConfigNode::Ptr> anchors_;
};

}  // namespace

const ConfigNode::Entry* ConfigNode::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

std::string to_string(const ConfigPlace& place) {
  return *place.file + (place.line > 0 ? ":" + std::to_string(place.line) : std::string());
}

void config_error(const ConfigPlace& place, const std::string& message) {
  throw ConfigError(to_string(place) + ": " + message);
}

namespace {

// yaml-cpp does not say that it stumbled over a tab.
std::string tab_hint(std::string_view text, int line) {
  for (int i = 1; i < line && !text.empty(); ++i) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  const std::string_view indentation = text.substr(0, std::min(text.find_first_not_of(" \t"), text.size()));
  return indentation.find('\t') == std::string_view::npos ? ""
                                                          : " (the line is indented with a tab; YAML wants spaces)";
}

}  // namespace

ConfigNode::Ptr parse_config(std::string_view text, const std::shared_ptr<const std::string>& file, bool with_lines) {
  if (static_cast<int64_t>(text.size()) > kMaxConfigBytes)
    config_error({file, 0}, "larger than 1 MB; is it a configuration?");
  // yaml-cpp would let bytes of any encoding through as text.
  if (const std::string problem = encoding_problem(text); !problem.empty()) config_error({file, 0}, problem);
  TreeBuilder builder(file, with_lines);
  try {
    // The end-of-document mark makes yaml-cpp see a double quote that is never closed, which it would otherwise accept.
    std::istringstream stream(std::string(text) + (text.ends_with('\n') ? "...\n" : "\n...\n"));
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 0 : error.mark.line + 1;
    config_error({file, with_lines ? line : 0}, "not valid YAML: " + error.msg + tab_hint(text, line));
  }
  if (builder.root()) return builder.root();
  auto empty = std::make_shared<ConfigNode>();
  empty->place = {file, 0};
  return empty;
}

ConfigNode::Ptr merge_config(const ConfigNode::Ptr& below, const ConfigNode::Ptr& top) {
  using Kind = ConfigNode::Kind;
  if (below->kind != Kind::mapping || top->kind != Kind::mapping) {
    return below->kind == Kind::mapping && top->kind == Kind::null ? below : top;
  }
  auto merged = std::make_shared<ConfigNode>(*below);
  std::unordered_map<std::string_view, size_t> index;
  for (size_t i = 0; i < below->entries.size(); ++i) index.emplace(below->entries[i].key, i);
  for (const ConfigNode::Entry& entry : top->entries) {
    const auto found = index.find(entry.key);
    if (found == index.end()) {
      merged->entries.push_back(entry);
    } else {
      ConfigNode::Entry& old = merged->entries[found->second];
      old = {entry.key, entry.place, merge_config(old.value, entry.value)};
    }
  }
  return merged;
}

}  // namespace gradlibra
