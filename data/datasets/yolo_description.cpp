// SPDX-License-Identifier: MIT
#include "data/datasets/yolo_description.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <stdexcept>

#include "data/datasets/annotations.h"
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

std::vector<std::string> names_in(const YAML::Node& names, const fs::path& file) {
  std::vector<std::string> classes;
  if (!names) return classes;
  const std::string place = fmt::format("{}:{}: `names`", file.string(), names.Mark().line + 1);
  if (names.IsScalar() && !names.Scalar().empty())
    throw std::runtime_error(fmt::format("{} is one text, '{}': write a list, as in names: [cell, nucleus]", place,
                                         escaped(names.Scalar())));
  if (names.IsSequence())
    for (const YAML::Node& entry : names) classes.push_back(entry.as<std::string>());
  if (!names.IsMap()) return classes;
  std::map<int64_t, std::string> by_index;
  for (const auto& entry : names) {
    const auto index = entry.first.as<int64_t>();
    const auto [first, fresh] = by_index.emplace(index, entry.second.as<std::string>());
    if (!fresh)
      throw std::runtime_error(fmt::format("{} has the index {} twice: '{}' and '{}'", place, index,
                                           escaped(first->second), escaped(entry.second.as<std::string>())));
  }
  for (const auto& [index, text] : by_index) {
    if (index != static_cast<int64_t>(classes.size()))
      throw std::runtime_error(fmt::format("{} has no class {}", place, classes.size()));
    classes.push_back(text);
  }
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
  for (const Line& line : lines_of(text)) classes.emplace_back(line.text);
  return classes;
}

}  // namespace gradlibra
