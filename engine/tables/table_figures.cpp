// SPDX-License-Identifier: MIT
#include "engine/tables/table_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

// "0.2" of "model.loss.alpha_pos=0.2"; nothing if the row does not say, or says "off".
std::optional<double> alpha_of(const PaperRow& row, const std::string& key) {
  for (const std::string& given : row.run.overrides) {
    if (!given.starts_with(key + "=")) continue;
    const char* begin = given.c_str() + key.size() + 1;
    char* end = nullptr;
    const double value = std::strtod(begin, &end);
    if (end != begin && *end == '\0' && std::isfinite(value)) return value;
  }
  return {};
}

Panel alpha_panel(const PaperTable& table, const std::vector<RowResults>& rows, const std::string& sign,
                  const std::string& varied, const std::string& other) {
  Panel panel;
  const std::string alpha = "\u03b1" + sign;
  panel.axes = {.title = fmt::format("({}) {} varied alone", sign == "\u207a" ? "a" : "b", alpha),
                .x_label = alpha,
                .y_label = "mAP",
                .width = 400,
                .height = 290};
  Series curve{.name = "Grad-Libra", .color = 0, .markers = true};
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto value = alpha_of(table.rows[i], varied);
    const Spread spread = spread_of(rows[i], "mAP");
    if (!value || alpha_of(table.rows[i], other) || spread.count == 0) continue;
    curve.x.push_back(*value);
    curve.y.push_back(spread.mean);
    curve.spread.push_back(spread.deviation);
    panel.axes.description +=
        fmt::format("{} {:g}: {:.1f}, deviation {:.1f}. ", alpha, *value, spread.mean, spread.deviation);
  }
  if (curve.x.empty()) return panel;
  const auto [low, high] = std::minmax_element(curve.x.begin(), curve.x.end());
  panel.axes.x_range = Interval{*low - 0.05, *high + 0.05};
  panel.series.push_back(curve);
  const Spread level = spread_of(rows[table.baseline], "mAP");
  if (level.count == 0) return panel;
  panel.series.push_back({.name = table.rows[table.baseline].label,
                          .x = {panel.axes.x_range->low, panel.axes.x_range->high},
                          .y = {level.mean, level.mean},
                          .reference = true});
  panel.axes.description += fmt::format("{}: {:.1f}.", table.rows[table.baseline].label, level.mean);
  return panel;
}

// Both panels on one axis of mAP, so that they can be compared.
void share_axis(std::vector<Panel>& panels) {
  ValueRange range;
  for (const Panel& panel : panels)
    for (const Series& s : panel.series)
      for (size_t k = 0; k < s.y.size(); ++k) {
        const double spread = k < s.spread.size() ? s.spread[k] : 0;
        range.add(s.y[k] - spread, false);
        range.add(s.y[k] + spread, false);
      }
  const Interval all = range.around({0, 100});
  const double rim = std::max(0.5, 0.08 * (all.high - all.low));
  for (Panel& panel : panels) panel.axes.y_range = Interval{all.low - rim, all.high + rim};
}

struct RunRecords {
  ClassRecord ratio, norm;
};

RunRecords of_log(const fs::path& log) {
  if (!fs::exists(log)) throw std::runtime_error(log.string() + ": is not there");
  const TrainingLog read = read_training_log(log);
  RunRecords records{last_record(read, "gradient_ratio"), last_record(read, "weight_norm")};
  if (records.ratio.values.empty() && records.norm.values.empty())
    throw std::runtime_error(log.string() + ": holds nothing of the classes (train.class_gradients)");
  return records;
}

// The classes in the paper's order, others behind: a table's file has them by name.
ClassRecord of_values(Values values) {
  ClassRecord record;
  for (const std::string& name : paper_table("table1").columns)
    if (const auto known = values.extract(name)) record.values.emplace_back(known.key(), known.mapped());
  record.values.insert(record.values.end(), values.begin(), values.end());
  return record;
}

RunRecords of_table(const std::map<std::string, Values>& of_classes) {
  const auto named = [&](const char* name) {
    const auto found = of_classes.find(name);
    return found == of_classes.end() ? ClassRecord{} : of_values(found->second);
  };
  return {named("ratio"), named("norm")};
}

std::map<std::string, Values> finite_values(const RunRecords& records) {
  std::map<std::string, Values> values;
  for (const auto& [name, value] : records.ratio.values)
    if (std::isfinite(value)) values["ratio"][name] = value;
  for (const auto& [name, value] : records.norm.values)
    if (std::isfinite(value)) values["norm"][name] = value;
  return values;
}

// The mean over seeds of each class, in the order of the first record.
Series class_series(const std::string& label, const std::map<int64_t, ClassRecord>& by_seed,
                    const std::vector<std::string>& names) {
  Series series{.name = label, .markers = true};
  for (size_t c = 0; c < names.size(); ++c) {
    std::vector<double> values;
    for (const auto& [seed, record] : by_seed)
      for (const auto& [name, value] : record.values)
        if (name == names[c] && std::isfinite(value)) values.push_back(value);
    if (values.empty()) continue;
    const Spread over_seeds = spread_of(values);
    series.x.push_back(static_cast<double>(c));
    series.y.push_back(over_seeds.mean);
    series.spread.push_back(over_seeds.deviation);
  }
  return series;
}

Panel class_panel(const PaperTable& table, const std::vector<RowRecords>& records,
                  const std::map<int64_t, ClassRecord> RowRecords::*which, const Axes& axes) {
  Panel panel{.axes = axes, .series = {}};
  std::vector<std::string>& names = panel.axes.x_names;
  for (const RowRecords& row : records)
    for (const auto& [seed, record] : row.*which)
      for (const auto& [name, value] : record.values)  // a table's file leaves out what is no number
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  for (size_t i = 0; i < records.size(); ++i) {
    if ((records[i].*which).empty()) continue;
    panel.series.push_back(class_series(table.rows[i].label, records[i].*which, names));
    const Series& last = panel.series.back();
    panel.axes.description += last.name + ": ";
    for (size_t k = 0; k < last.x.size(); ++k)
      panel.axes.description +=
          fmt::format("{}{} {:.3g}", k > 0 ? ", " : "", names[static_cast<size_t>(last.x[k])], last.y[k]);
    panel.axes.description += ". ";
  }
  return panel;
}

}  // namespace

std::vector<RowRecords> read_records(const fs::path& folder, const PaperTable& table, std::vector<RowResults>& rows) {
  std::vector<RowRecords> records(rows.size());
  if (table.name != "fig3") return records;
  for (size_t i = 0; i < rows.size(); ++i)
    std::erase_if(rows[i].by_seed, [&](const auto& entry) {
      const int64_t seed = entry.first;
      const fs::path log = folder / "runs" / table.rows[i].run.name / fmt::format("seed_{}", seed) / "log.jsonl";
      RunRecords run;
      try {
        run = of_log(log);
        rows[i].of_classes[seed] = finite_values(run);
      } catch (const std::runtime_error& error) {
        const auto stored = rows[i].of_classes.find(seed);
        if (stored == rows[i].of_classes.end()) {
          rows[i].missing[seed] = error.what();
          return true;
        }
        run = of_table(stored->second);
      }
      if (!run.ratio.values.empty()) records[i].ratio[seed] = std::move(run.ratio);
      if (!run.norm.values.empty()) records[i].norm[seed] = std::move(run.norm);
      return false;
    });
  return records;
}

std::vector<Panel> figure_panels(const PaperTable& table, const std::vector<RowResults>& rows,
                                 const std::vector<RowRecords>& records) {
  std::vector<Panel> panels;
  if (table.name == "fig4") {
    const std::string positives = "model.loss.alpha_pos", negatives = "model.loss.alpha_neg";
    panels = {alpha_panel(table, rows, "\u207a", positives, negatives),
              alpha_panel(table, rows, "\u207b", negatives, positives)};
    share_axis(panels);
  } else if (table.name == "fig3") {
    panels = {class_panel(table, records, &RowRecords::ratio,
                          {.title = "(a) cumulative gradient ratio",
                           .y_label = "positive / negative",
                           .log_y = true,
                           .width = 460,
                           .height = 330}),
              class_panel(table, records, &RowRecords::norm,
                          {.title = "(b) normalised weight norm",
                           .y_label = "norm / largest",
                           .y_range = Interval{0, 1},
                           .width = 460,
                           .height = 330})};
  }
  const bool any = std::any_of(panels.begin(), panels.end(), [](const Panel& panel) { return !panel.series.empty(); });
  return any ? panels : std::vector<Panel>{};
}

std::string figure_svg(const PaperTable& table, const std::vector<Panel>& panels) {
  if (panels.empty()) return "";
  std::vector<std::string> figures;
  figures.reserve(panels.size());
  for (const Panel& panel : panels) figures.push_back(svg_curves(panel.axes, panel.series));
  return svg_panels(table.title, figures, panels[0].axes.width, panels[0].axes.height);
}

}  // namespace gradlibra
