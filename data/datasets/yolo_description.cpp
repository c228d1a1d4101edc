// SPDX-License-Identifier: MIT
#include "data/datasets/yolo_description.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <stdexcept>
#include <utility>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxYamlBytes = 1LL << 20;

// The file that describes an export, under the names that it goes by.
std::vector<fs::path> descriptions(const DatasetConfig& config) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const char* name : {"data.yaml", "dataset.yaml", "data.yml"})
    if (fs::exists(fs::path(config.root) / name, error)) files.push_back(fs::path(config.root) / name);
  return files;
}

// A key that is there twice has two values, of which YAML's readers take either.
void check_keys(const YAML::Node& description, const fs::path& file) {
  std::map<std::string, int> lines;
  for (const auto& entry : description) {
    if (!description.IsMap() || !entry.first.IsScalar()) continue;
    const int line = entry.first.Mark().line + 1;
    if (const auto [first, fresh] = lines.emplace(entry.first.Scalar(), line); !fresh)
      throw std::runtime_error(fmt::format("{}:{}: has the key `{}` already in line {}: take one away", file.string(),
                                           line, escaped(first->first), first->second));
  }
}

// A name twice would be two classes that nothing tells apart. The numbers are those of lines.
void check_names(const std::vector<std::pair<std::string, int>>& names, const fs::path& file) {
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto [first, fresh] = known.emplace(std::string(trim(names[i].first)), i);
    if (fresh) continue;
    throw std::runtime_error(fmt::format("{}:{}: class {} is '{}', as is class {} in line {}: rename one of them",
                                         file.string(), names[i].second, i, escaped(first->first), first->second,
                                         names[first->second].second));
  }
}

std::vector<std::string> names_in(const YAML::Node& names, const fs::path& file) {
  std::vector<std::string> classes;
  if (!names) return classes;
  const std::string place = fmt::format("{}:{}: `names`", file.string(), names.Mark().line + 1);
  if (names.IsScalar() && !names.Scalar().empty())
    throw std::runtime_error(fmt::format("{} is one text, '{}': write a list, as in names: [cell, nucleus]", place,
                                         escaped(names.Scalar())));
  std::vector<std::pair<std::string, int>> found;  // with their lines
  if (names.IsSequence())
    for (const YAML::Node& entry : names) found.emplace_back(entry.as<std::string>(), entry.Mark().line + 1);
  if (names.IsMap()) {
    std::map<int64_t, std::pair<std::string, int>> by_index;
    for (const auto& entry : names) {
      const auto index = entry.first.as<int64_t>();
      const auto [first, fresh] =
          by_index.emplace(index, std::pair(entry.second.as<std::string>(), entry.first.Mark().line + 1));
      if (!fresh)
        throw std::runtime_error(fmt::format("{} has the index {} twice: '{}' and '{}'", place, index,
                                             escaped(first->second.first), escaped(entry.second.as<std::string>())));
    }
    for (const auto& [index, name] : by_index) {
      if (index != static_cast<int64_t>(found.size()))
        throw std::runtime_error(fmt::format("{} has no class {}", place, found.size()));
      found.push_back(name);
    }
  }
  check_names(found, file);
  for (const auto& [name, line] : found) classes.push_back(name);
  return classes;
}

}  // namespace

size_t read_yolo_keypoint_numbers(const DatasetConfig& config) {
  for (const fs::path& file : descriptions(config)) {
    YAML::Node shape;
    try {
      const YAML::Node description = YAML::Load(read_text(file, kMaxYamlBytes));
      if (description.IsMap() && description["kpt_shape"]) shape.reset(description["kpt_shape"]);
    } catch (const std::exception&) {  // said where the names are wanted of it
      continue;
    }
    if (!shape.IsDefined() || shape.IsNull()) continue;
    try {
      if (shape.IsSequence() && shape.size() == 2) {
        const auto points = shape[0].as<int64_t>(), numbers = shape[1].as<int64_t>();
        constexpr int64_t kMostPoints = 10'000;
        if (points >= 1 && points <= kMostPoints && (numbers == 2 || numbers == 3))
          return static_cast<size_t>(points * numbers);
      }
    } catch (const YAML::Exception&) {
    }
    throw std::runtime_error(
        fmt::format("{}:{}: `kpt_shape` must be [number of keypoints, 2 or 3]", file.string(), shape.Mark().line + 1));
  }
  return 0;
}

std::vector<std::string> read_yolo_classes(const DatasetConfig& config) {
  std::error_code error;
  for (const fs::path& file : descriptions(config)) {
    try {
      const YAML::Node description = YAML::Load(read_text(file, kMaxYamlBytes));
      check_keys(description, file);
      std::vector<std::string> classes = names_in(description["names"], file);
      if (classes.empty()) continue;
      if (const YAML::Node count = description["nc"];
          count && count.as<int64_t>() != static_cast<int64_t>(classes.size()))
        throw std::runtime_error(fmt::format("{}:{}: `nc` is {}, but `names` has {} classes: [{}]", file.string(),
                                             count.Mark().line + 1, count.as<int64_t>(), classes.size(),
                                             escaped(fmt::format("{}", fmt::join(classes, ", ")))));
      return classes;
    } catch (const YAML::Exception& problem) {
      throw std::runtime_error(
          fmt::format("{}:{}: not valid YAML: {}", file.string(), problem.mark.line + 1, problem.msg));
    }
  }
  std::vector<std::string> classes;
  const fs::path file = fs::path(config.root) / "classes.txt";
  if (!fs::exists(file, error)) return classes;
  const std::string text = read_text(file, kMaxYamlBytes);
  std::vector<std::pair<std::string, int>> found;
  for (const Line& line : lines_of(text)) {
    const auto expected = static_cast<int>(found.size()) + 1;
    if (line.number != expected)
      throw std::runtime_error(
          fmt::format("{}:{}: is blank, but each line is a class, the first of them 0: take it away, or name the class",
                      file.string(), expected));
    found.emplace_back(line.text, line.number);
  }
  check_names(found, file);
  for (const auto& [name, line] : found) classes.push_back(name);
  return classes;
}

}  // namespace gradlibra
