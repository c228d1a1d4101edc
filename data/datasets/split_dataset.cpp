// SPDX-License-Identifier: MIT
#include "data/datasets/split_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <regex>
#include <set>
#include <span>
#include <stdexcept>
#include <tuple>

#include "data/datasets/annotations.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/random.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 3> kNames{"train", "val", "test"};

// Images that stay together, and what they hold.
struct Group {
  std::string name;
  std::vector<size_t> images;
  std::vector<int64_t> boxes;  // by class
  int64_t total = 0;
  bool placed = false;
};

std::vector<std::string> names_of_groups(const Dataset& dataset, const std::string& pattern) {
  std::vector<std::string> names;
  if (pattern.empty()) {
    for (const ImageRecord& image : dataset.images) names.push_back(image.id);
    return names;
  }
  try {
    const std::regex expression(pattern);
    for (const ImageRecord& image : dataset.images) {
      std::smatch match;
      if (!std::regex_search(image.id, match, expression))
        throw std::invalid_argument(fmt::format("--group-by '{}' finds nothing in the id '{}'", pattern, image.id));
      names.push_back(match.size() > 1 ? match[1].str() : match[0].str());
    }
  } catch (const std::regex_error& error) {
    throw std::invalid_argument(fmt::format("--group-by '{}' is no regular expression: {}", pattern, error.what()));
  }
  return names;
}

class Divider {
 public:
  Divider(const Dataset& dataset, const DivideOptions& options)
      : shares_{1 - options.val - options.test, options.val, options.test},
        random_(options.seed, {hash_name("divide", 6)}),
        classes_(dataset.classes.size()) {
    result_.group_of = names_of_groups(dataset, options.group_by);
    std::map<std::string, size_t> index;
    for (size_t i = 0; i < dataset.images.size(); ++i) {
      const auto [entry, fresh] = index.emplace(result_.group_of[i], groups_.size());
      if (fresh) groups_.push_back({result_.group_of[i], {}, std::vector<int64_t>(classes_, 0)});
      Group& group = groups_[entry->second];
      group.images.push_back(i);
      for (const Object& object : dataset.images[i].objects) {
        ++group.boxes[static_cast<size_t>(object.label)];
        ++group.total;
      }
    }
    // In random order, so that what the order of the files is plays no part.
    random_.shuffle(std::span(groups_));
    left_.assign(classes_, 0);
    int64_t boxes = 0;
    for (const Group& group : groups_) {
      boxes += group.total;
      for (size_t c = 0; c < classes_; ++c) left_[c] += group.boxes[c];
    }
    for (size_t s = 0; s < 3; ++s) {
      wanted_images_[s] = shares_[s] * static_cast<double>(dataset.images.size());
      wanted_boxes_[s] = shares_[s] * static_cast<double>(boxes);
      for (const int64_t count : left_) wanted_[s].push_back(shares_[s] * static_cast<double>(count));
    }
    result_.split_of.assign(dataset.images.size(), 0);
    result_.class_boxes.assign(classes_, {});
  }

  Division run() {
    while (true) {
      size_t rarest = classes_;
      for (size_t c = 0; c < classes_; ++c)
        if (left_[c] > 0 && (rarest == classes_ || left_[c] < left_[rarest])) rarest = c;
      if (rarest == classes_) break;
      std::vector<Group*> holding;
      for (Group& group : groups_)
        if (!group.placed && group.boxes[rarest] > 0) holding.push_back(&group);
      std::stable_sort(holding.begin(), holding.end(),
                       [&](const Group* a, const Group* b) { return a->boxes[rarest] > b->boxes[rarest]; });
      // A split that has none yet comes before its share, as long as another has more than one to expect.
      const auto lack = [&](size_t s) { return wanted_[s][rarest] + (result_.class_boxes[rarest][s] == 0 ? 1 : 0); };
      for (Group* group : holding) place(*group, best(lack));
    }
    for (Group& group : groups_)
      if (!group.placed) place(group, best([&](size_t s) { return wanted_images_[s]; }));
    return std::move(result_);
  }

 private:
  // The split with the largest lack by `lack`, then of boxes, then of images; one without a share is never chosen.
  template <class Lack>
  [[nodiscard]] size_t best(const Lack& lack) {
    size_t chosen = 3;
    for (size_t s = 0; s < 3; ++s) {
      if (shares_[s] <= 0) continue;
      if (chosen == 3 || std::tuple(lack(s), wanted_boxes_[s], wanted_images_[s]) >
                             std::tuple(lack(chosen), wanted_boxes_[chosen], wanted_images_[chosen]))
        chosen = s;
    }
    return chosen;
  }

  void place(Group& group, size_t split) {
    group.placed = true;
    ++result_.groups[split];
    for (size_t c = 0; c < classes_; ++c) {
      left_[c] -= group.boxes[c];
      wanted_[split][c] -= static_cast<double>(group.boxes[c]);
      result_.class_boxes[c][split] += group.boxes[c];
    }
    wanted_boxes_[split] -= static_cast<double>(group.total);
    wanted_images_[split] -= static_cast<double>(group.images.size());
    for (const size_t image : group.images) {
      result_.split_of[image] = static_cast<int>(split);
      ++result_.images[split];
    }
  }

  const std::array<double, 3> shares_;
  RandomStream random_;
  const size_t classes_;
  std::vector<Group> groups_;
  std::vector<int64_t> left_;  // objects by class that are not placed yet
  std::array<std::vector<double>, 3> wanted_;
  std::array<double, 3> wanted_boxes_{}, wanted_images_{};
  Division result_;
};

}  // namespace

Division divide(const Dataset& dataset, const DivideOptions& options) {
  if (!(options.val >= 0 && options.test >= 0 && options.val + options.test < 1))
    throw std::invalid_argument(fmt::format("shares of val ({}) and test ({}) must be 0 or more, and below 1 together",
                                            options.val, options.test));
  Division division = Divider(dataset, options).run();
  for (size_t c = 0; c < division.class_boxes.size(); ++c) {
    for (size_t s = 0; s < 3; ++s) {
      const double share = s == 0 ? 1 - options.val - options.test : s == 1 ? options.val : options.test;
      const auto& boxes = division.class_boxes[c];
      if (share > 0 && boxes[s] == 0 && boxes[0] + boxes[1] + boxes[2] > 0)
        division.warnings.push_back(fmt::format("{} has no '{}' ({} boxes in all)", kNames[s], dataset.classes[c],
                                                boxes[0] + boxes[1] + boxes[2]));
    }
  }
  return division;
}

std::vector<fs::path> write_division(const DatasetConfig& config, const Dataset& dataset, const Division& division,
                                     const fs::path& output) {
  std::vector<fs::path> written;
  std::vector<std::pair<fs::path, std::string>> files;
  nlohmann::ordered_json source;
  if (config.format == "coco") {
    const fs::path file = split_file(config, Split::train);
    const std::string text = read_text(file, kMaxAnnotationBytes);
    try {
      source = parse_json<nlohmann::ordered_json>(text);
    } catch (const std::runtime_error& error) {  // read_dataset() takes NaN, which is no JSON
      throw std::runtime_error(fmt::format("{}: {}", file.string(), error.what()));
    }
  }
  for (size_t s = 0; s < 3; ++s) {
    if (division.images[s] == 0) continue;
    std::string lines;
    std::set<std::string> ids;
    for (size_t i = 0; i < dataset.images.size(); ++i) {
      if (division.split_of[i] != static_cast<int>(s)) continue;
      const ImageRecord& image = dataset.images[i];
      ids.insert(image.id);
      lines += (config.format == "yolo" ? fs::absolute(image.path).string() : image.id) + "\n";
    }
    if (config.format == "coco") {
      nlohmann::ordered_json part = source;
      const auto key = [](const nlohmann::ordered_json& id) {
        return id.is_string()         ? id.get<std::string>()
               : id.is_number_float() ? fmt::format("{:.0f}", id.get<double>())
                                      : id.dump();
      };
      for (const auto& [list, field] : {std::pair("images", "id"), std::pair("annotations", "image_id")}) {
        nlohmann::ordered_json kept = nlohmann::ordered_json::array();
        for (nlohmann::ordered_json& entry : part.at(list))
          if (entry.contains(field) && ids.contains(key(entry.at(field)))) kept.push_back(std::move(entry));
        part[list] = std::move(kept);
      }
      files.emplace_back(output / "annotations" / fmt::format("{}.json", kNames[s]), part.dump() + "\n");
    } else {
      files.emplace_back(
          (config.format == "voc" ? output / "ImageSets" / "Main" : output) / fmt::format("{}.txt", kNames[s]), lines);
    }
  }
  for (const auto& [file, text] : files)
    if (fs::exists(file)) throw std::runtime_error(file.string() + ": is there already; choose another --output");
  for (const auto& [file, text] : files) {
    write_file(file, text);
    written.push_back(file);
  }
  return written;
}

std::string division_text(const Dataset& dataset, const Division& division) {
  size_t width = 8;
  for (const std::string& name : dataset.classes) width = std::max(width, name.size());
  std::string text = fmt::format("{:<{}} {:>8} {:>8} {:>8}\n", "", width, kNames[0], kNames[1], kNames[2]);
  const auto row = [&](const std::string& name, const std::array<int64_t, 3>& counts) {
    text += fmt::format("{:<{}} {:>8} {:>8} {:>8}\n", name, width, counts[0], counts[1], counts[2]);
  };
  for (size_t c = 0; c < dataset.classes.size(); ++c) row(dataset.classes[c], division.class_boxes[c]);
  row("images", division.images);
  row("groups", division.groups);
  for (const std::string& warning : division.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace gradlibra
