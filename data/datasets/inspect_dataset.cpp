// SPDX-License-Identifier: MIT
// The report of `inspect data`: what is wrong with a data set, and what is in it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "data/datasets/annotations.h"
#include "data/datasets/yolo_description.h"
#include "data/images/image.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Kind = Finding::Kind;
using Action = Finding::Action;

constexpr std::array kSplits{Split::train, Split::val, Split::test};

// Count of objects and of images that hold one, by class.
struct ClassCount {
  int64_t objects = 0, images = 0;
};

std::vector<ClassCount> count_classes(const Dataset& dataset) {
  std::vector<ClassCount> counts(dataset.classes.size());
  for (const ImageRecord& image : dataset.images) {
    std::set<int> present;
    for (const Object& object : image.objects) {
      ++counts[object.label].objects;
      present.insert(object.label);
    }
    for (const int label : present) ++counts[label].images;
  }
  return counts;
}

struct SplitResult {
  Split split;
  fs::path file;
  Dataset dataset;
  std::vector<ClassCount> counts = count_classes(dataset);
};

struct Quantiles {
  double low = 0, quarter = 0, median = 0, three_quarters = 0, high = 0;
};

std::optional<Quantiles> quantiles(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
  };
  return Quantiles{at(0), at(0.25), at(0.5), at(0.75), at(1)};
}

Json to_json(const std::optional<Quantiles>& q) {
  if (!q) return nullptr;
  return {{"min", q->low}, {"q25", q->quarter}, {"median", q->median}, {"q75", q->three_quarters}, {"max", q->high}};
}

class Inspection {
 public:
  Inspection(const DatasetConfig& config, const InspectOptions& options)
      : config_(config), options_(options), log_(report_.findings, FindingLog::OnError::collect) {}

  DatasetReport run() {
    classes_given_ = !config_.classes.empty();
    if (!classes_given_) find_classes();
    for (const Split split : kSplits) {
      if (!split_name(config_, split).empty()) read(split);
    }
    check_overlaps();
    check_unused_images();
    check_usual_classes();
    write_text();
    write_json();
    return std::move(report_);
  }

 private:
  void fatal(std::string file, const std::string& message) {
    log_.note({Kind::bad_annotation, Action::fatal, std::move(file), "", message});
  }

  // Without a configured list the files are asked, so that the rest of the report can be made.
  void find_classes() {
    std::vector<Finding> unheard;
    FindingLog quiet(unheard, FindingLog::OnError::collect);
    for (const Split split : kSplits) {
      if (split_name(config_, split).empty()) continue;
      try {
        Reading reading{config_, split, false, quiet};
        const std::vector<std::string> names = config_.format == "coco" ? read_coco_classes(split_file(config_, split))
                                               : config_.format == "yolo" ? read_yolo_classes(config_)
                                                                          : read_voc(reading).classes;
        for (const std::string& name : names) {
          if (std::find(config_.classes.begin(), config_.classes.end(), name) == config_.classes.end())
            config_.classes.push_back(name);
        }
      } catch (const std::exception&) {  // reported when the split is read
      }
    }
    if (config_.format == "voc" && !config_.classes.empty()) {
      std::sort(config_.classes.begin(), config_.classes.end());
      log_.note({Kind::unknown_class, Action::fatal, config_.root, "",
                 fmt::format("data.classes is empty, which training does not accept for VOC; the files name [{}]",
                             fmt::join(config_.classes, ", "))});
    }
  }

  void read(Split split) {
    try {
      const fs::path file = split_file(config_, split);
      for (const SplitResult& other : splits_) {
        if (other.file != file) continue;
        log_.note(
            {Kind::duplicate_id, Action::none, file.string(), "",
             fmt::format("is both the {} and the {} split{}", to_string(other.split), to_string(split),
                         other.split == Split::train ? ": results on it say nothing about images never seen" : "")});
        return;
      }
      FindingLog log(report_.findings, FindingLog::OnError::collect);  // counts its own
      const ReadOptions options{.decode = true, .limits = options_.limits, .progress = {}};
      splits_.push_back({split, file, read_dataset(config_, split, log, options)});
      if (split == Split::train)
        check_trainable(splits_.back().dataset);
      else
        check_evaluable(splits_.back(), log);
    } catch (const std::exception& error) {
      fatal(fmt::format("{} split", to_string(split)), error.what());
    }
  }

  // Every training would stop here.
  void check_trainable(const Dataset& dataset) {
    DatasetConfig asked = config_;
    if (!classes_given_) asked.classes.clear();
    const std::string problem = training_problem(asked, dataset, report_.findings);
    if (!problem.empty()) log_.note({Kind::missing_class, Action::fatal, config_.root, "", problem});
  }

  // A training stops at a validation split without images, an evaluation at any. Where images are missing for a reason,
  // that has been said.
  void check_evaluable(const SplitResult& result, const FindingLog& log) {
    const auto stops = [](const Finding& finding) { return finding.action == Action::fatal; };
    const auto found = log.findings();
    if (!result.dataset.images.empty() || std::any_of(found.begin(), found.end(), stops)) return;
    const char* key = to_string(result.split);
    log_.note(
        {Kind::missing_image, Action::fatal, result.file.string(), "",
         fmt::format("the {0} split has no images: list some, or set data.{0} to nothing if there is no such split",
                     key)});
  }

  void check_overlaps() {
    std::map<std::string, Split> seen;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images) {
        const auto [first, fresh] = seen.emplace(image.path.string(), result.split);
        if (fresh || first->second == result.split) continue;
        log_.note({Kind::duplicate_id, Action::none, result.file.string(), "",
                   fmt::format("'{}' ({}) is in both {} and {}", image.id, image.path.string(),
                               to_string(first->second), to_string(result.split))});
      }
    }
  }

  // Images and VOC annotations in the folders that no split led to.
  void check_unused_images() {
    if (splits_.empty()) return;
    std::set<std::string> used;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images) used.insert(image.path.lexically_normal().string());
    }
    std::string dropped;  // what was said of images that a split did lead to
    for (const Finding& finding : report_.findings) {
      used.insert(fs::path(finding.file).lexically_normal().string());
      if (finding.action == Action::image_dropped) dropped += finding.message + "\n";
    }
    const auto reported = [&](const fs::path& file) {
      const fs::path annotation = annotation_folder(config_) / (file.stem().string() + ".xml");
      return used.contains(file.lexically_normal().string()) || dropped.find(file.string()) != std::string::npos ||
             (config_.format == "voc" && used.contains(annotation.lexically_normal().string()));
    };
    std::vector<fs::path> unused;
    std::error_code error;
    std::set<fs::path> folders;
    for (const SplitResult& result : splits_) folders.insert(image_folder(config_, result.split));
    for (const fs::path& folder : folders) {
      if (!fs::is_directory(folder, error)) continue;
      for (const std::string& file : files_of(walk_folder(folder), is_picture))
        if (!reported(folder / file)) unused.push_back(folder / file);
    }
    std::sort(unused.begin(), unused.end());
    unused.erase(std::unique(unused.begin(), unused.end()), unused.end());
    for (const fs::path& file : unused) {
      const bool annotated =
          config_.format == "voc" && fs::exists(annotation_folder(config_) / (file.stem().string() + ".xml"), error);
      log_.note({Kind::unused_image, Action::none, file.string(), "",
                 annotated                 ? "is annotated but in no split"
                 : config_.format == "voc" ? "has no annotation and is in no split"
                                           : "is in no annotation file of these splits"});
    }
  }

  // A class on nearly every image is what the slides are made of; the few without it are likely not fully labelled.
  void check_usual_classes() {
    constexpr int64_t kFewImages = 20;
    constexpr double kUsual = 0.9;
    int64_t images = 0;
    std::vector<int64_t> holding(config_.classes.size());
    for (const SplitResult& result : splits_) {
      images += static_cast<int64_t>(result.dataset.images.size());
      for (size_t c = 0; c < result.counts.size() && c < holding.size(); ++c) holding[c] += result.counts[c].images;
    }
    if (images < kFewImages) return;
    for (size_t c = 0; c < holding.size(); ++c) {
      if (holding[c] == images || static_cast<double>(holding[c]) < kUsual * static_cast<double>(images)) continue;
      for (const SplitResult& result : splits_) {
        for (const ImageRecord& image : result.dataset.images) {
          const bool has = std::any_of(image.objects.begin(), image.objects.end(),
                                       [&](const Object& o) { return o.label == static_cast<int>(c); });
          if (has) continue;
          log_.note({Kind::class_missing_from_image, Action::none, image.path.string(), "",
                     fmt::format("no '{}', which {} of {} images hold; {} boxes in all: perhaps not fully labelled",
                                 config_.classes[c], holding[c], images, image.objects.size())});
        }
      }
    }
  }

  static bool is_picture(const fs::path& file) { return format_by_name(file).has_value(); }

  [[nodiscard]] std::string group_of(const std::string& name) const {
    for (const auto& [group, members] : config_.groups) {
      if (std::find(members.begin(), members.end(), name) != members.end()) return group;
    }
    return "";
  }

  // "kind" to "action" to count.
  [[nodiscard]] std::map<std::string, std::map<std::string, int64_t>> finding_counts() const {
    std::map<std::string, std::map<std::string, int64_t>> counts;
    for (const Finding& finding : report_.findings) ++counts[to_string(finding.kind)][to_string(finding.action)];
    return counts;
  }

  void write_text() {
    std::string& out = report_.text;
    out += fmt::format("Data set {} ({})\n\n", config_.root, config_.format);
    size_t name_width = 8;
    for (const std::string& name : config_.classes) name_width = std::max(name_width, name.size());

    out += "Boxes (images that hold one) by class and split\n";
    out += fmt::format("  {:<{}}  {:<10}", "class", name_width, "group");
    for (const SplitResult& result : splits_) out += fmt::format(" {:>16}", to_string(result.split));
    out += "\n";
    std::map<std::string, std::vector<int64_t>> groups;  // group to boxes per split
    std::vector<ClassCount> totals(splits_.size());
    for (size_t c = 0; c < config_.classes.size(); ++c) {
      const std::string& name = config_.classes[c];
      const std::string group = group_of(name);
      out += fmt::format("  {:<{}}  {:<10}", name, name_width, group);
      for (size_t s = 0; s < splits_.size(); ++s) {
        const ClassCount count = splits_[s].counts[c];
        out += fmt::format(" {:>16}", fmt::format("{} ({})", count.objects, count.images));
        auto& sums = groups[group];
        sums.resize(splits_.size());
        sums[s] += count.objects;
        totals[s].objects += count.objects;
      }
      out += "\n";
    }
    for (const auto& [group, sums] : groups) {
      if (group.empty()) continue;
      out += fmt::format("  {:<{}}  {:<10}", "", name_width, group);
      for (const int64_t sum : sums) out += fmt::format(" {:>16}", sum);
      out += "\n";
    }
    out += fmt::format("  {:<{}}  {:<10}", "all", name_width, "");
    for (size_t s = 0; s < splits_.size(); ++s) {
      out += fmt::format(" {:>16}", fmt::format("{} ({})", totals[s].objects, splits_[s].dataset.images.size()));
    }
    out += "\n\n";
    write_sizes(out, name_width);
    write_findings(out);
  }

  // Values of all boxes of the class (all classes for -1).
  template <class Value>
  [[nodiscard]] std::optional<Quantiles> box_quantiles(int label, Value&& value) const {
    std::vector<double> values;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images) {
        for (const Object& object : image.objects) {
          if (label < 0 || object.label == label) values.push_back(value(object.box));
        }
      }
    }
    return quantiles(std::move(values));
  }

  static double side(const Box& box) { return std::sqrt(static_cast<double>(box.x2 - box.x1) * (box.y2 - box.y1)); }

  [[nodiscard]] std::optional<Quantiles> boxes_per_image() const {
    std::vector<double> values;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images)
        values.push_back(static_cast<double>(image.objects.size()));
    }
    return quantiles(std::move(values));
  }

  struct Tally {
    int64_t difficult = 0, crowd = 0, at_left_or_top = 0, at_right_or_bottom = 0;
  };
  [[nodiscard]] Tally tally() const {
    Tally t;
    const bool pixel_indices = config_.format == "voc" && config_.voc_one_based;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images) {
        for (const Object& object : image.objects) {
          t.difficult += object.difficult;
          t.crowd += object.crowd;
          t.at_left_or_top += object.box.x1 <= 0 || object.box.y1 <= 0;
          const float inset = pixel_indices ? 1.f : 0.f;
          t.at_right_or_bottom += object.box.x2 >= static_cast<float>(image.width) - inset ||
                                  object.box.y2 >= static_cast<float>(image.height) - inset;
        }
      }
    }
    return t;
  }

  [[nodiscard]] std::map<std::string, int64_t> image_sizes() const {
    std::map<std::string, int64_t> sizes;
    for (const SplitResult& result : splits_) {
      for (const ImageRecord& image : result.dataset.images) ++sizes[fmt::format("{} x {}", image.width, image.height)];
    }
    return sizes;
  }

  void write_sizes(std::string& out, size_t name_width) const {
    out += fmt::format("Side of a box in pixels (square root of its area)\n  {:<{}} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
                       "class", name_width, "min", "25%", "median", "75%", "max");
    const auto row = [&](const std::string& name, const std::optional<Quantiles>& q) {
      out += fmt::format("  {:<{}}", name, name_width);
      if (q)
        out += fmt::format(" {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f}", q->low, q->quarter, q->median,
                           q->three_quarters, q->high);
      else
        out += fmt::format(" {:>8}", "-");
      out += "\n";
    };
    for (size_t c = 0; c < config_.classes.size(); ++c)
      row(config_.classes[c], box_quantiles(static_cast<int>(c), side));
    row("all", box_quantiles(-1, side));
    out += "Boxes per image\n";
    row("", boxes_per_image());
    const Tally t = tally();
    out += fmt::format(
        "Boxes that touch the left or top edge: {}; the right or bottom edge: {}; difficult: {}; crowd: {}\n",
        t.at_left_or_top, t.at_right_or_bottom, t.difficult, t.crowd);
    out += "Image sizes:";
    constexpr size_t kShown = 8;
    size_t shown = 0;
    const auto sizes = image_sizes();
    for (const auto& [size, count] : sizes) {
      if (shown++ == kShown) break;
      out += fmt::format(" {} ({} images){}", size, count, shown < std::min(sizes.size(), kShown) ? "," : "");
    }
    out += sizes.size() > kShown ? fmt::format(" and {} more sizes\n\n", sizes.size() - kShown) : "\n\n";
  }

  void write_findings(std::string& out) const {
    for (const SplitResult& result : splits_)
      out += fmt::format("{}: {}\n", to_string(result.split), result.dataset.summary.text());
    if (report_.findings.empty()) {
      out += "Findings: none\n";
      return;
    }
    out += "\nFindings by kind and what is done (fatal: training or an evaluation stops there)\n";
    for (const auto& [kind, actions] : finding_counts()) {
      for (const auto& [action, count] : actions) out += fmt::format("  {:<26} {:<16} {:>8}\n", kind, action, count);
    }
    // Of each kind and action the first few, the worst first: thousands of one kind would hide the others.
    std::map<std::pair<int, Kind>, std::vector<const Finding*>> groups;
    for (const Finding& finding : report_.findings)
      groups[{-static_cast<int>(finding.action), finding.kind}].push_back(&finding);
    for (const auto& [key, alike] : groups) {
      out += "\n";
      size_t shown = 0;
      for (const Finding* finding : alike) {
        if (options_.shown > 0 && shown == static_cast<size_t>(options_.shown)) break;
        out += fmt::format("  {} [{}, {}]\n", describe(*finding), to_string(finding->kind), to_string(finding->action));
        ++shown;
      }
      if (shown < alike.size())
        out += fmt::format("  and {} more [{}, {}]\n", alike.size() - shown, to_string(key.second),
                           to_string(alike.front()->action));
    }
  }

  void write_json() {
    Json json;
    json["root"] = config_.root;
    json["format"] = config_.format;
    json["classes"] = config_.classes;
    json["groups"] = config_.groups;
    for (const SplitResult& result : splits_) {
      Json classes = Json::object();
      for (size_t c = 0; c < result.counts.size(); ++c) {
        const ClassCount& count = result.counts[c];
        classes[result.dataset.classes[c]] = {{"boxes", count.objects}, {"images", count.images}};
      }
      json["splits"][to_string(result.split)] = {{"file", result.file.string()},
                                                 {"images", result.dataset.images.size()},
                                                 {"summary", Json::parse(result.dataset.summary.json())},
                                                 {"classes", std::move(classes)}};
    }
    Json sides = Json::object();
    for (size_t c = 0; c < config_.classes.size(); ++c)
      sides[config_.classes[c]] = to_json(box_quantiles(static_cast<int>(c), side));
    json["box_side"] = std::move(sides);
    json["boxes_per_image"] = to_json(boxes_per_image());
    json["image_sizes"] = image_sizes();
    const Tally t = tally();
    json["boxes"] = {{"at_left_or_top", t.at_left_or_top},
                     {"at_right_or_bottom", t.at_right_or_bottom},
                     {"difficult", t.difficult},
                     {"crowd", t.crowd}};
    json["finding_counts"] = finding_counts();
    json["findings"] = Json::array();
    for (const Finding& finding : report_.findings) {
      json["findings"].push_back({{"kind", to_string(finding.kind)},
                                  {"action", to_string(finding.action)},
                                  {"file", finding.file},
                                  {"where", finding.where},
                                  {"message", finding.message}});
    }
    // Names in files may be any bytes.
    report_.json = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  DatasetConfig config_;
  InspectOptions options_;
  bool classes_given_ = true;
  DatasetReport report_;
  FindingLog log_;
  std::vector<SplitResult> splits_;
};

}  // namespace

DatasetReport inspect_dataset(const DatasetConfig& config, const InspectOptions& options) {
  return Inspection(config, options).run();
}

}  // namespace gradlibra
