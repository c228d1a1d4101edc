// SPDX-License-Identifier: MIT
// Metrics for a person (an aligned table) and for a program (JSON).
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "data/metrics/metrics.h"

namespace gradlibra {
namespace {

// frequent, common, rare, then any others by name.
std::vector<std::string> group_order(const Dataset& dataset) {
  std::vector<std::string> order;
  for (const char* known : {"frequent", "common", "rare"}) {
    if (dataset.groups.contains(known)) order.emplace_back(known);
  }
  for (const auto& [name, classes] : dataset.groups) {
    if (std::find(order.begin(), order.end(), name) == order.end()) order.push_back(name);
  }
  return order;
}

std::string group_of(const Dataset& dataset, const std::string& name) {
  std::string result;
  for (const std::string& group : group_order(dataset)) {
    const std::vector<std::string>& members = dataset.groups.at(group);
    if (std::find(members.begin(), members.end(), name) != members.end())
      result += (result.empty() ? "" : ", ") + group;
  }
  return result;
}

std::string number(const std::optional<double>& value) { return value ? fmt::format("{:.3f}", *value) : "-"; }
std::optional<double> if_any(double coco) { return coco < 0 ? std::nullopt : std::optional(coco); }

// Columns on a terminal: UTF-8 continuation bytes take none.
size_t columns_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}
std::string padded(const std::string& text, size_t width, bool right) {
  const std::string space(width - std::min(width, columns_of(text)), ' ');
  return right ? space + text : text + space;
}

std::string repeated(const char* text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

using Row = std::vector<std::string>;

std::optional<double> find(const std::map<std::string, std::optional<double>>& values, const std::string& key) {
  const auto found = values.find(key);
  return found == values.end() ? std::nullopt : found->second;
}

nlohmann::ordered_json json_of(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

}  // namespace

std::string short_group_name(const std::string& group) {
  return group == "frequent" || group == "common" || group == "rare" ? group.substr(0, 1) : group;
}

std::string metrics_table(const Dataset& dataset, const VocResult& voc, const CocoResult& coco) {
  const bool groups = !dataset.groups.empty();
  const auto row = [groups](const std::string& name, const std::string& group, const Row& rest) {
    Row cells = groups ? Row{name, group} : Row{name};
    cells.insert(cells.end(), rest.begin(), rest.end());
    return cells;
  };
  const Row header = row("class", "group", {"AP", "AP (11-point)", "recall", "ground truths", "detections"});
  std::vector<Row> rows;
  int64_t ground_truths = 0, detections = 0;
  for (const ClassResult& one : voc.classes) {
    rows.push_back(row(one.name, group_of(dataset, one.name),
                       {number(one.ap), number(one.ap_11_point), number(one.recall), std::to_string(one.ground_truths),
                        std::to_string(one.detections)}));
    ground_truths += one.ground_truths;
    detections += one.detections;
  }
  const Row total = row("mean", "",
                        {number(voc.map), number(voc.map_11_point), number(voc.mean_recall),
                         std::to_string(ground_truths), std::to_string(detections)});

  std::vector<size_t> widths(header.size(), 0);
  const auto widen = [&](const Row& cells) {
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], columns_of(cells[i]));
  };
  widen(header);
  widen(total);
  for (const Row& cells : rows) widen(cells);
  const size_t texts = groups ? 2 : 1;  // left-aligned columns
  const auto print = [&](const Row& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) line += (i > 0 ? "   " : " ") + padded(cells[i], widths[i], i >= texts);
    return line + " \n";
  };
  size_t width = 2;
  for (size_t i = 0; i < widths.size(); ++i) width += widths[i] + (i > 0 ? 3 : 0);
  const std::string rule = repeated("\u2500", width) + "\n";

  std::string text = rule + print(header) + rule;
  for (const Row& cells : rows) text += print(cells);
  text += rule + print(total) + rule;

  // Below it pairs of name and value, three to a line, aligned.
  using Pair = std::pair<std::string, std::optional<double>>;
  std::vector<std::vector<Pair>> lines;
  const std::vector<std::string> order = group_order(dataset);
  for (size_t i = 0; i < order.size(); i += 3) {
    std::vector<Pair>& aps = lines.emplace_back();
    for (size_t j = i; j < std::min(i + 3, order.size()); ++j)
      aps.emplace_back("AP_" + short_group_name(order[j]), find(voc.group_ap, order[j]));
    std::vector<Pair>& recalls = lines.emplace_back();
    for (size_t j = i; j < std::min(i + 3, order.size()); ++j)
      recalls.emplace_back("mR_" + short_group_name(order[j]), find(voc.group_recall, order[j]));
  }
  lines.push_back({{"mAP@0.5", voc.map}, {"11-point", voc.map_11_point}, {"mean recall", voc.mean_recall}});
  lines.push_back({{"COCO AP", if_any(coco.ap)}, {"AP50", if_any(coco.ap50)}, {"AP75", if_any(coco.ap75)}});
  lines.push_back({{"AP small", if_any(coco.ap_small)},
                   {"AP medium", if_any(coco.ap_medium)},
                   {"AP large", if_any(coco.ap_large)}});
  lines.push_back({{"AR 1", if_any(coco.ar_1)}, {"AR 10", if_any(coco.ar_10)}, {"AR 100", if_any(coco.ar_100)}});
  lines.push_back({{"AR small", if_any(coco.ar_small)},
                   {"AR medium", if_any(coco.ar_medium)},
                   {"AR large", if_any(coco.ar_large)}});
  size_t columns[3] = {0, 0, 0};
  for (const std::vector<Pair>& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) columns[i] = std::max(columns[i], columns_of(line[i].first));
  }
  for (const std::vector<Pair>& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      text += (i == 0 ? " " : "      ") + padded(line[i].first, columns[i], false) + "  " +
              padded(number(line[i].second), 5, true);
    }
    text += '\n';
  }
  text += " COCO: IoU 0.50:0.95, maxDets=100 of an image and class; small up to 32x32, large from 96x96 pixels\n";
  return text + rule;
}

namespace {

nlohmann::ordered_json json_of(const PrecisionRecall& curve) {
  nlohmann::ordered_json recall = nlohmann::ordered_json::array(), score = recall;
  for (size_t k = 0; k < curve.precision.size(); ++k) {
    recall.push_back(static_cast<double>(k) / (PrecisionRecall::kPoints - 1));
    score.push_back(k < curve.score.size() ? nlohmann::ordered_json(curve.score[k]) : nlohmann::ordered_json());
  }
  return {{"recall", recall}, {"precision", curve.precision}, {"score", score}};
}

nlohmann::ordered_json json_of(const ConfusionMatrix& matrix, std::vector<std::string> names) {
  names.emplace_back("background");
  return {{"min_score", matrix.options.min_score},
          {"iou", matrix.options.iou_threshold},
          {"rows", "ground truth; the last: detections where nothing is"},
          {"columns", "detected; the last: ground truth that nothing found"},
          {"names", names},
          {"counts", matrix.counts}};
}

nlohmann::ordered_json json_of(const Calibration& calibration) {
  nlohmann::ordered_json bins = nlohmann::ordered_json::array();
  for (const CalibrationBin& bin : calibration.bins)
    bins.push_back({{"detections", bin.detections}, {"mean_score", bin.mean_score}, {"precision", bin.precision}});
  return {{"error", calibration.error}, {"bins", bins}};
}

}  // namespace

std::string metrics_json(const Dataset& dataset, const VocResult& voc, const CocoResult& coco) {
  nlohmann::ordered_json json;
  json["mAP"] = json_of(voc.map);
  json["mAP_11_point"] = json_of(voc.map_11_point);
  json["mean_recall"] = json_of(voc.mean_recall);
  json["groups"] = nlohmann::ordered_json::object();
  for (const std::string& group : group_order(dataset)) {
    json["groups"]["AP_" + short_group_name(group)] = json_of(find(voc.group_ap, group));
    json["groups"]["mR_" + short_group_name(group)] = json_of(find(voc.group_recall, group));
  }
  json["data"] = nlohmann::ordered_json::parse(dataset.summary.json());
  json["coco"] = {{"AP", json_of(if_any(coco.ap))},
                  {"AP50", json_of(if_any(coco.ap50))},
                  {"AP75", json_of(if_any(coco.ap75))},
                  {"AP_small", json_of(if_any(coco.ap_small))},
                  {"AP_medium", json_of(if_any(coco.ap_medium))},
                  {"AP_large", json_of(if_any(coco.ap_large))},
                  {"AR_1", json_of(if_any(coco.ar_1))},
                  {"AR_10", json_of(if_any(coco.ar_10))},
                  {"AR_100", json_of(if_any(coco.ar_100))},
                  {"AR_small", json_of(if_any(coco.ar_small))},
                  {"AR_medium", json_of(if_any(coco.ar_medium))},
                  {"AR_large", json_of(if_any(coco.ar_large))}};
  json["classes"] = nlohmann::ordered_json::array();
  for (const ClassResult& one : voc.classes) {
    const std::string group = group_of(dataset, one.name);
    json["classes"].push_back({{"name", one.name},
                               {"group", group.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(group)},
                               {"AP", json_of(one.ap)},
                               {"AP_11_point", json_of(one.ap_11_point)},
                               {"recall", json_of(one.recall)},
                               {"ground_truths", one.ground_truths},
                               {"detections", one.detections},
                               {"precision_recall", json_of(one.curve)}});
  }
  json["confusion"] = json_of(voc.confusion, dataset.classes);
  json["calibration"] = {{"all", json_of(voc.calibration)}};
  for (const std::string& group : group_order(dataset))
    if (const auto found = voc.group_calibration.find(group); found != voc.group_calibration.end())
      json["calibration"][group] = json_of(found->second);
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace gradlibra
