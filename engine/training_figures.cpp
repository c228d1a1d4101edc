// SPDX-License-Identifier: MIT
#include "engine/training_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "engine/plots/svg_plot.h"
#include "engine/training_log.h"

namespace gradlibra {

namespace {

constexpr double kWidth = 640;

void add_bars(const TrainingLog& log, const char* key, const char* file, Axes axes, TrainingFigures& to) {
  const ClassRecord record = last_record(log, key);
  if (record.values.empty()) return;
  std::vector<Bar> bars;
  for (const auto& [name, value] : record.values) bars.push_back({name, value});
  axes.title += fmt::format(", step {}", record.step);
  to.files[file] = svg_bars(axes, bars);
}

std::string last_values(const TrainingLog::Lines& steps) {
  const auto last = std::find_if(steps.rbegin(), steps.rend(),
                                 [](const auto& entry) { return entry.second.contains("gradient_ratio"); });
  if (last == steps.rend()) return "no values by class (train.class_gradients=false, or an older training)\n";
  constexpr const char* kRow = "{:<20} {:>14} {:>14} {:>12} {:>12} {:>12}\n";
  std::string text = fmt::format("step {}\n", last->first) + fmt::format(kRow, "class", "gradient ratio", "of |p - y|",
                                                                         "hard of up", "hard of down", "weight norm");
  for (const auto& [name, ratio] : last->second["gradient_ratio"].items()) {
    const auto value = [&, key = name](const char* of) {
      const auto object = last->second.find(of);  // an older training has fewer
      return object != last->second.end() && object->contains(key) && (*object)[key].is_number()
                 ? fmt::format("{:.4g}", (*object)[key].get<double>())
                 : "-";
    };
    text += fmt::format(kRow, name, value("gradient_ratio"), value("gradient_ratio_ce"),
                        value("gradient_hard_positive"), value("gradient_hard_negative"), value("weight_norm"));
  }
  return text;
}

}  // namespace

TrainingFigures training_figures(const std::filesystem::path& log) {
  const TrainingLog read = read_training_log(log);
  TrainingFigures figures;
  std::vector<Series> losses = series_of(read.steps, [](const std::string& name) { return name.starts_with("loss"); });
  for (Series& s : losses) smooth(s);
  const auto curves = [&](const char* file, const Axes& axes, const std::vector<Series>& series) {
    figures.files[file] = svg_curves(axes, series);
  };
  curves("loss.svg", {.title = "Losses", .x_label = "step", .y_label = "loss", .log_y = true, .width = kWidth}, losses);
  curves("learning_rate.svg", {.title = "Learning rate", .x_label = "step", .y_label = "rate", .width = kWidth},
         series_of(read.steps, [](const std::string& n) { return n == "lr"; }));
  if (!read.validations.empty())
    curves("validation.svg", {.title = "Validation", .x_label = "step", .y_label = "value", .width = kWidth},
           series_of(read.validations, [](const std::string& n) { return n.starts_with("val_"); }));
  if (const auto ratios = objects_of(read.steps, "gradient_ratio"); !ratios.empty())
    curves("gradient_ratio.svg",
           {.title = "Cumulative ratio of positive to negative gradients",
            .x_label = "step",
            .y_label = "ratio",
            .log_y = true,
            .width = kWidth},
           series_of(ratios, [](const std::string&) { return true; }));
  add_bars(read, "gradient_ratio", "gradient_ratio_bars.svg",
           {.title = "Cumulative ratio of positive to negative gradients",
            .x_label = "ratio",
            .log_y = true,
            .width = kWidth},
           figures);
  add_bars(read, "weight_norm", "weight_norm.svg",
           {.title = "Normalised weight norm of the classifier", .x_label = "norm / largest", .width = kWidth},
           figures);
  figures.text = last_values(read.steps);
  if (read.unreadable > 0) figures.text += fmt::format("{} lines could not be read\n", read.unreadable);
  return figures;
}

}  // namespace gradlibra
