// SPDX-License-Identifier: MIT
#include "engine/training_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "engine/svg_plot.h"

namespace gradlibra {

namespace {

using Json = nlohmann::ordered_json;

struct Log {
  std::map<int64_t, Json> steps, validations;  // by step
  int64_t unreadable = 0;
};

Log read_log(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + ": cannot be read; is it a training's folder?");
  Log log;
  for (std::string text; std::getline(file, text);) {
    Json line = Json::parse(text, nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) {
      log.unreadable += !text.empty();
      continue;
    }
    const int64_t step = line["step"].get<int64_t>();
    std::map<int64_t, Json>& lines = line.contains("loss") ? log.steps : log.validations;
    lines[step] = std::move(line);
  }
  if (log.steps.empty()) throw std::runtime_error(path.string() + ": holds no step");
  return log;
}

// One series per key that `wanted` takes, in the order in which keys come up.
template <class Wanted>
std::vector<Series> series_of(const std::map<int64_t, Json>& lines, Wanted&& wanted) {
  std::vector<Series> all;
  for (const auto& [step, line] : lines)
    for (const auto& [name, value] : line.items()) {
      if (!value.is_number() || !wanted(name)) continue;
      auto series = std::find_if(all.begin(), all.end(), [&, key = name](const Series& s) { return s.name == key; });
      if (series == all.end()) series = all.insert(all.end(), Series{.name = name, .x = {}, .y = {}});
      series->x.push_back(static_cast<double>(step));
      series->y.push_back(value.template get<double>());
    }
  return all;
}

// Of values by class: the objects under `key` as lines.
std::map<int64_t, Json> objects_of(const std::map<int64_t, Json>& lines, const char* key) {
  std::map<int64_t, Json> result;
  for (const auto& [step, line] : lines)
    if (const auto found = line.find(key); found != line.end() && found->is_object()) result[step] = *found;
  return result;
}

// Means of neighbouring values, about fifty of them.
void smooth(Series& s) {
  const size_t width = std::max<size_t>(1, s.y.size() / 50);
  Series means{.name = s.name, .x = {}, .y = {}};
  for (size_t begin = 0; begin < s.y.size(); begin += width) {
    const size_t end = std::min(begin + width, s.y.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += s.y[i];
    means.x.push_back(s.x[end - 1]);
    means.y.push_back(sum / static_cast<double>(end - begin));
  }
  s = means;
}

void add_bars(const std::map<int64_t, Json>& lines, const char* key, const char* file, Axes axes, TrainingFigures& to) {
  const std::map<int64_t, Json> objects = objects_of(lines, key);
  if (objects.empty()) return;
  std::vector<std::string> names;
  std::vector<double> values;
  for (const auto& [name, value] : objects.rbegin()->second.items()) {
    names.push_back(name);
    values.push_back(value.is_number() ? value.get<double>() : 0);
  }
  axes.title += fmt::format(", step {}", objects.rbegin()->first);
  to.files[file] = svg_bars(axes, names, values);
}

std::string last_values(const std::map<int64_t, Json>& steps) {
  const auto last = std::find_if(steps.rbegin(), steps.rend(),
                                 [](const auto& entry) { return entry.second.contains("gradient_ratio"); });
  if (last == steps.rend()) return "no values by class (train.class_gradients=false, or an older training)\n";
  std::string text = fmt::format("step {}\n{:<20} {:>14} {:>14} {:>12}\n", last->first, "class", "gradient ratio",
                                 "of |p - y|", "weight norm");
  for (const auto& [name, ratio] : last->second["gradient_ratio"].items()) {
    const auto value = [&, key = name](const char* of) {
      const Json& object = last->second[of];
      return object.contains(key) && object[key].is_number() ? fmt::format("{:.4g}", object[key].get<double>()) : "-";
    };
    text += fmt::format("{:<20} {:>14} {:>14} {:>12}\n", name, value("gradient_ratio"), value("gradient_ratio_ce"),
                        value("weight_norm"));
  }
  return text;
}

}  // namespace

TrainingFigures training_figures(const std::filesystem::path& log) {
  const std::filesystem::path path = std::filesystem::is_directory(log) ? log / "log.jsonl" : log;
  const Log read = read_log(path);
  TrainingFigures figures;
  std::vector<Series> losses = series_of(read.steps, [](const std::string& name) { return name.starts_with("loss"); });
  for (Series& s : losses) smooth(s);
  figures.files["loss.svg"] = svg_curves({"Losses", "step", "loss", true}, losses);
  figures.files["learning_rate.svg"] = svg_curves(
      {"Learning rate", "step", "rate"}, series_of(read.steps, [](const std::string& n) { return n == "lr"; }));
  if (!read.validations.empty())
    figures.files["validation.svg"] =
        svg_curves({"Validation", "step", "value"},
                   series_of(read.validations, [](const std::string& n) { return n.starts_with("val_"); }));
  const auto any = [](const std::string&) { return true; };
  if (const auto ratios = objects_of(read.steps, "gradient_ratio"); !ratios.empty())
    figures.files["gradient_ratio.svg"] = svg_curves(
        {"Cumulative ratio of positive to negative gradients", "step", "ratio", true}, series_of(ratios, any));
  add_bars(read.steps, "gradient_ratio", "gradient_ratio_bars.svg",
           {"Cumulative ratio of positive to negative gradients", "", "ratio", true}, figures);
  add_bars(read.steps, "weight_norm", "weight_norm.svg",
           {"Normalised weight norm of the classifier", "", "norm / largest"}, figures);
  figures.text = last_values(read.steps);
  if (read.unreadable > 0) figures.text += fmt::format("{} lines could not be read\n", read.unreadable);
  return figures;
}

}  // namespace gradlibra
